"""Requests on their way: the kernel's engine, runs, jobs, conversations and tools."""
