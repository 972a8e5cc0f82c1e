-- Keeps free seats back, or gives kept-back ones free.
-- KEYS: as the table
-- ARGV: 1 '1' to keep back, '' to give free; 2... the seats
-- Returns: {'done', version, changes}
local from, to = BLOCKED, FREE
if ARGV[1] == '1' then from, to = FREE, BLOCKED end
mark(those_in(numbers(2), from), to)
return {'done', publish()}
