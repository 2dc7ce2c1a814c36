"""Where a call goes: provider settings become targets, and a principal's call picks one."""
