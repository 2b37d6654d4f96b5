"""Quality control of samples, frames and slides."""
