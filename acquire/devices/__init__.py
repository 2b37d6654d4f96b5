"""The microscope: hardware file, backend, camera, stage."""
