"""HTTP ↔ questions and answers; the only place that imports Litestar."""
