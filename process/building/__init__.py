"""Building a data set from scans."""
