"""One report each: ask the ledger, judge the limits, fill in what is known without asking."""
