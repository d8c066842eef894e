"""What people read: view data first, template second, text last."""
