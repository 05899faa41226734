"""What a deployment needs beside the code: container health, and the table of settings in the docs."""
