"""The machine: atomic file writes, failures, distributed processes, provenance, time and memory."""
