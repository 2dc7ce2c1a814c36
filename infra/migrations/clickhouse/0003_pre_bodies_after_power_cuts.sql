-- Bodies are not synced at every insert: they are not the books, and a power cut may take the
-- newest. The parts that it leaves broken must not keep the table from opening, as more than a
-- hundred would by the server's default: a batch inserts its bodies before its entries.
ALTER TABLE bodies MODIFY SETTING max_suspicious_broken_parts = 1000000;
