-- Blocks free seats, or frees blocked ones.
-- KEYS: as the table in mod.rs
-- ARGV: 1 '1' to block, '' to free; 2... the seats
-- Returns: {'done', version, changes}
local from, to = BLOCKED, FREE
if ARGV[1] == '1' then from, to = FREE, BLOCKED end
mark(those_in(numbers(2), from), to)
return {'done', publish()}
