"""The sorted table file: writing, opening, and what stands in its sections."""
