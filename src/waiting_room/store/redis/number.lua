-- Gives numbers: so many of nobody's, and one to each subject that has none; idempotent for these, as a subject keeps hers.
-- KEYS[1] state, then a bucket each. ARGV[1] ceiling, [2] numbers at most, [3] how many of nobody's; then a field each.
-- Returns: the highest number given; the first of nobody's and how many these are; then for each subject n (new), -n (had
-- it) or 0 (none left below the ceiling).
local v = redis.call('HMGET', KEYS[1], 'issued', 'ceiling')
local issued = tonumber(v[1])
local before = issued
local ceiling = math.min(math.max(tonumber(v[2]), tonumber(ARGV[1])), tonumber(ARGV[2]))
local of_nobody = math.min(tonumber(ARGV[3]), math.max(ceiling - issued, 0))
issued = issued + of_nobody
local answers = { 0, before + 1, of_nobody }
for i = 2, #KEYS do
    local bucket, field = KEYS[i], ARGV[i + 2]
    -- Nearly all are new: one command tells and writes.
    if issued < ceiling and redis.call('HSETNX', bucket, field, issued + 1) == 1 then
        issued = issued + 1
        answers[i + 2] = issued
    else
        answers[i + 2] = -tonumber(redis.call('HGET', bucket, field) or 0)
    end
end
if issued > before then
    redis.call('HSET', KEYS[1], 'issued', issued, 'ceiling', ceiling)
end
answers[1] = issued
return answers
