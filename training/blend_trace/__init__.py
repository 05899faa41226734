"""Makes blend-trace again from a folder of faces, and measures it: `python -m training.blend_trace`."""
