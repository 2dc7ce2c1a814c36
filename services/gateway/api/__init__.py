"""HTTP to values and back; the only place that imports Litestar."""
