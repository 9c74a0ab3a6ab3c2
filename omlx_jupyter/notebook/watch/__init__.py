"""What the engine is doing, for the dashboard and JupyterLab's panel."""
