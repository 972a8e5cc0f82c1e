-- Gives a number to each subject that has none; idempotent, as a subject keeps hers.
-- KEYS[1] state, then a bucket each. ARGV[1] ceiling, [2] numbers at most; then a field each.
-- Returns: the highest number given, then for each subject n (new), -n (had it) or 0 (none left below the ceiling).
local v = redis.call('HMGET', KEYS[1], 'issued', 'ceiling')
local issued = tonumber(v[1])
local before = issued
local ceiling = math.min(math.max(tonumber(v[2]), tonumber(ARGV[1])), tonumber(ARGV[2]))
local answers = { 0 }
for i = 2, #KEYS do
    local bucket, field = KEYS[i], ARGV[i + 1]
    -- Nearly all are new: one command tells and writes.
    if issued < ceiling and redis.call('HSETNX', bucket, field, issued + 1) == 1 then
        issued = issued + 1
        answers[i] = issued
    else
        answers[i] = -tonumber(redis.call('HGET', bucket, field) or 0)
    end
end
if issued > before then
    redis.call('HSET', KEYS[1], 'issued', issued, 'ceiling', ceiling)
end
answers[1] = issued
return answers
