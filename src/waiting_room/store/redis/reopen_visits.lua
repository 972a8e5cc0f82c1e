-- Reopens visits whose end could not be journaled: they go on.
-- KEYS visits, visit_deadlines. ARGV slot_grace_ms; then the visits. Returns: 1.
for i = FIRST_ITEM, #ARGV do
    local visit = read_visit(visits_key, ARGV[i])
    if visit and visit.stage == 'e' then
        visit.stage = 'a'
        write_visit(visits_key, ARGV[i], visit)
        local pass_over = math.max(visit.pass_until, visit.kept_until) + tonumber(slot_grace_ms)
        redis.call('ZADD', visit_deadlines_key, pass_over, ARGV[i])
    end
end
return 1
