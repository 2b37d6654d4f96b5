"""How one slide lies against another: two scans, or two folders of images with their places."""
