-- The ends of these visits could not be written down: they go on.
-- KEYS 1 visits, 2 ends. ARGV 1 grace after a pass (ms); then the visits.
for i = 2, #ARGV do
    local v = read_visit(KEYS[1], ARGV[i])
    if v and v.stage == 'e' then
        v.stage = 'i'
        write_visit(KEYS[1], ARGV[i], v)
        redis.call('ZADD', KEYS[2], math.max(v.pass, v.kept) + tonumber(ARGV[1]), ARGV[i])
    end
end
return 1
