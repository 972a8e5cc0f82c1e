-- Gives a number to each subject that has none; idempotent, as a subject keeps hers.
-- KEYS[1] state, then the buckets. ARGV[1] ceiling, [2] numbers at most; then a bucket's place in KEYS and a field each.
-- Returns: the highest number given, then for each subject n (new), -n (had it) or 0 (none left below the ceiling).
local v = redis.call('HMGET', KEYS[1], 'issued', 'ceiling')
local issued = tonumber(v[1])
local before = issued
local ceiling = math.min(math.max(tonumber(v[2]), tonumber(ARGV[1])), tonumber(ARGV[2]))
local answers = { 0 }
for i = 3, #ARGV, 2 do
    local bucket, field = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
    local had = redis.call('HGET', bucket, field)
    if had then
        answers[#answers + 1] = -tonumber(had)
    elseif issued >= ceiling then
        answers[#answers + 1] = 0
    else
        issued = issued + 1
        redis.call('HSET', bucket, field, issued)
        answers[#answers + 1] = issued
    end
end
if issued > before then
    redis.call('HSET', KEYS[1], 'issued', issued, 'ceiling', ceiling)
end
answers[1] = issued
return answers
