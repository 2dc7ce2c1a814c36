"""What tests share: running real servers, and little else."""
