-- `golden` of a day from a lake's Parquet, as contract.md defines it, for DuckDB: what `aislot compute` is measured against.
-- Variables: `lake`, its folder, and `date`. Instants are nanoseconds throughout, as integers.
-- It knows what is in tests/bench/lake.py's lakes: no events, no snapshots, kinds by the beginnings of names.
create macro seconds(n) as n::bigint * 1000000000;
create macro hours(n) as seconds(n * 3600);
create macro day() as epoch_ns(getvariable('date')::timestamp);

create macro kind_of(job) as case
    when job like 'codex-k8s-codegen-check%' then 'codegen-check'
    when job like 'codex-k8s-kaniko-%' then 'build'
    when job like 'codex-k8s-mirror-%' then 'mirror'
end;
create macro dated(name) as table
    select * from read_parquet(getvariable('lake') || '/' || name || '/*/*.parquet', hive_partitioning = true)
    where date between cast(getvariable('date') as date) - 1 and cast(getvariable('date') as date) + 1;

-- Each scrape of each job; `created` of that scrape says which attempt it shows.
create temp table lives as
with at_scrape as (
    select
        namespace, job_name, epoch_ns(ts) as ts,
        max(value) filter (metric = 'created') as created,
        max(value) filter (metric = 'start_time') as started,
        max(value) filter (metric = 'completion_time') as completed,
        coalesce(bool_or(value >= 1) filter (metric = 'complete'), false) as complete,
        coalesce(bool_or(value >= 1) filter (metric = 'failed_condition'), false) as failed
    from dated('_aislot/job_samples')
    where epoch_ns(ts) >= day() - hours(6) and epoch_ns(ts) < day() + hours(48)
    group by all
    having created is not null
)
select
    namespace, job_name, seconds(created) as created_at,
    seconds(max(started)) as started_at, seconds(max(completed)) as completed_at,
    min(ts) filter (complete) as complete_seen, min(ts) filter (failed) as failed_seen,
    max(ts) filter (not complete and not failed) as alive_at, max(ts) as last_seen_at
from at_scrape
group by all;

-- How often scrapes come, the holes between them, and whether a later one no longer shows a job.
create temp table up as
select epoch_ns(ts) as ts from dated('_aislot/scrapes') where up;
create temp table holes as
with usual as (select quantile_disc(d, 0.75) as d from (select ts - lag(ts) over (order by ts) as d from up))
select ts as hole_start, coalesce(following, day() + hours(24)) as hole_end
from (select ts, lead(ts) over (order by ts) as following from up), usual
where coalesce(following, day() + hours(24)) - ts > 2.5 * usual.d;
create temp table sampled as
with usual as (select quantile_disc(d, 0.75) as d from (select ts - lag(ts) over (order by ts) as d from up))
select
    namespace, job_name, created_at, started_at, last_seen_at, 'prometheus' as source,
    case
        when completed_at is not null or complete_seen is not null then 'succeeded'
        when failed_seen is not null then 'failed'
        when last_seen_at + 3 * (select d from usual) // 2 < (select max(ts) from up) then 'vanished'
        else 'running'
    end as outcome,
    coalesce(completed_at, complete_seen, failed_seen) as ended_at,
    coalesce(alive_at, started_at, created_at) as alive_at
from lives;

-- The lines that matter, in one look through the logs: a signature, or words that a job failed.
create temp table told as
select
    epoch_ns(ts) as ts, job_name, namespace, line, signatures,
    contains(line, 'failed due stale kaniko cache, retrying without cache') as retry
from dated('logs')
where len(signatures) > 0
    or contains(line, ': job failed')
    or contains(line, 'failed due stale kaniko cache, retrying without cache');
create temp table said as
with named as (
    select
        ts, namespace, retry,
        case
            when retry then regexp_extract(line, '(codex-k8s-[a-z0-9-]+)[^\n]{0,200}failed due stale kaniko cache', 1)
            else regexp_extract(
                line,
                'wait (?:kaniko|mirror|codegen-check|codegen check|image mirror) job (codex-k8s-[a-z0-9-]+): job failed',
                1
            )
        end as job
    from told
)
select distinct ts, job, namespace, retry from named where job <> '' and ts >= day() - hours(6)
    and ts < day() + hours(25);

-- Whose end they tell: of the attempts of that name the last that was made a second or more before. What comes more than
-- a second after a retry was announced, or a minute after an end, is about an attempt that no scrape saw.
create temp table groups as
with met as (
    select said.*, sampled.created_at, sampled.outcome, sampled.ended_at
    from said
    asof left join sampled on said.job = sampled.job_name and said.ts >= sampled.created_at + seconds(1)
),
parted as (
    select
        *,
        case
            when lag(ts) over w is null then outcome is null
                or (outcome in ('succeeded', 'failed') and ts > ended_at + seconds(60))
            else ts > lag(ts) over w + seconds(case when lag(retry) over w then 1 else 60 end)
        end as another
    from met
    window w as (partition by job, created_at order by ts)
)
select *, sum(another::int) over (partition by job, created_at order by ts) as n from parted;
create temp table settled as
select
    s.namespace, s.job_name, s.created_at, s.started_at, s.last_seen_at, s.source,
    case when told_at is not null then 'failed' else s.outcome end as outcome,
    coalesce(told_at, s.ended_at) as ended_at
from sampled as s
left join (
    select g.job as job_name, g.created_at, min(g.ts) as told_at
    from groups as g
    join sampled using (created_at)
    where g.job = sampled.job_name and g.n = 0 and g.outcome <> 'succeeded'
        and case when g.outcome = 'failed' then g.ts < g.ended_at and g.ts >= alive_at else g.ts >= last_seen_at end
    group by all
) using (job_name, created_at);
create temp table unseen as
with sessions as (
    select
        namespace, job as job_name, created_at as before, n, min(ts) as ended_at,
        least(min(ts) + seconds(60), min(ts) filter (retry) + seconds(1)) as over_by,
        any_value(groups.ended_at) + seconds(60) as before_over_by
    from groups
    group by all
)
select *, coalesce(lag(over_by) over (partition by job_name, before order by n), before_over_by, 0) as after
from sessions
qualify n > 0;
create temp table shown as
select epoch_ns(ts) as ts, job_name from dated('logs') where job_name in (select job_name from unseen)
union all
select ts, job from said;
insert into settled
select u.namespace, u.job_name, min(ts), null, u.ended_at, 'logs', 'failed', u.ended_at
from unseen as u
join shown using (job_name)
where ts > u.after and ts >= u.ended_at - hours(6) and ts <= u.ended_at
group by all;
create temp table attempts as
select
    *, kind_of(job_name) as kind,
    case
        when ended_at is not null then ended_at
        when outcome = 'running' and last_seen_at >= day()
            and lead(created_at) over (partition by namespace, job_name order by created_at) is null
            then 9223372036854775807
        else last_seen_at
    end as over_at
from settled
where kind_of(job_name) is not null;

create temp table windows as
select w.name, seconds(w.len) as len, day() + seconds(i * w.len) as start
from (values ('15m', 900), ('1h', 3600)) as w(name, len), range(96) as r(i)
where i * w.len < 86400;
create temp table kinds as
select * from (values ('build'), ('mirror'), ('codegen-check')) as k(kind);
create temp table member as
select kind, kind as grp from kinds union all select kind, 'all' from kinds;

create temp table begun as
select grp, name, start, count(*) as started
from attempts join member using (kind) join windows on started_at >= start and started_at < start + len
group by all;
create temp table over as
select
    grp, name, start, count(*) as finished, count(*) filter (outcome = 'failed') as failed,
    quantile_cont((ended_at - started_at) / 1e9, 0.5) filter (outcome = 'succeeded') as p50,
    quantile_cont((ended_at - started_at) / 1e9, 0.95) filter (outcome = 'succeeded') as p95,
    max((ended_at - started_at) / 1e9) filter (outcome = 'succeeded') as longest
from attempts join member using (kind) join windows on ended_at >= start and ended_at < start + len
where outcome in ('succeeded', 'failed')
group by all;

-- Lines by signature: of a kind those whose job is of it, by their field, else by the one job that their text names.
create temp table signed as
with words as (
    select
        ts, signatures, job_name,
        list_distinct(list_transform(
            regexp_extract_all(line, '(?:^|[^a-z0-9-]|\\[nrt])(codex-k8s-(?:codegen-check|kaniko|mirror|run|migrate|repo-sync)[a-z0-9-]*)', 1),
            lambda w: rtrim(w, '-')
        )) as named
    from told
    where len(signatures) > 0 and ts >= day() and ts < day() + hours(24)
)
select ts, signatures, kind_of(coalesce(job_name, case when len(named) = 1 then named[1] end)) as kind from words;
create temp table counted as
select grp, name, start,
    count(*) filter (list_contains(signatures, 'manifest-unknown')) as manifest_unknown,
    count(*) filter (list_contains(signatures, 'cache-retrieval')) as cache_retrieval,
    count(*) filter (list_contains(signatures, 'build-ref')) as build_ref
from (select *, kind as grp from signed union all select *, 'all' from signed)
join windows on ts >= start and ts < start + len
group by all;

-- Backlog and what has not started, as step functions: the level at a window's start and every level inside it.
create temp table steps as
with spans as (
    select grp, 'backlog' as what, created_at as a, greatest(over_at, created_at) as b
    from attempts join member using (kind)
    union all
    select
        grp, 'pending', created_at,
        greatest(least(coalesce(case when source = 'logs' then created_at else started_at end, over_at), over_at), created_at)
    from attempts join member using (kind)
),
changed as (
    select grp, what, t, sum(d) as d
    from (select grp, what, a as t, 1 as d from spans union all select grp, what, b, -1 from spans)
    group by all
)
select grp, what, t, sum(d) over (partition by grp, what order by t) as level from changed;
create temp table most as
with here as (
    select edge.name, edge.start, edge.grp, edge.what, coalesce(s.level, 0) as level
    from (select * from windows, (select distinct grp, what from steps)) as edge
    asof left join steps as s on s.grp = edge.grp and s.what = edge.what and edge.start >= s.t
    union all
    select w.name, w.start, s.grp, s.what, s.level from steps as s join windows as w on s.t > w.start and s.t < w.start + w.len
)
select name, start, grp, max(level) filter (what = 'backlog') as backlog, max(level) filter (what = 'pending') as pending
from here
group by all;

create temp table golden as
with every as (
    select w.*, g.grp, not exists (select 1 from holes where hole_start < start + len and hole_end > start) as complete
    from windows as w, (select distinct grp from member) as g
)
select
    start as window_start, name as "window", grp as kind,
    case when complete then coalesce(started, 0) end as started,
    case when complete then coalesce(finished, 0) end as finished,
    case when complete then coalesce(failed, 0) end as failed,
    case when complete then failed / finished end as failure_ratio,
    coalesce(manifest_unknown, 0) as manifest_unknown_lines,
    coalesce(cache_retrieval, 0) as cache_retrieval_lines,
    coalesce(build_ref, 0) as build_ref_lines,
    case when complete then p50 end as duration_p50_s,
    case when complete then p95 end as duration_p95_s,
    case when complete then longest end as duration_max_s,
    case when complete then coalesce(backlog, 0) end as backlog_max,
    case when complete then coalesce(pending, 0) end as pending_max,
    cast(null as double) as queue_max,
    complete
from every
left join begun using (grp, name, start)
left join over using (grp, name, start)
left join counted using (grp, name, start)
left join most using (grp, name, start)
order by all;
