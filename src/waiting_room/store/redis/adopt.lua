-- Numbers promised under an earlier epoch stand, unless their subject has another by now.
-- KEYS the buckets. ARGV: a bucket's place in KEYS, a field and a number each.
-- Returns: for each 1 (it stands) or 0.
local answers = {}
for i = 1, #ARGV, 3 do
    local bucket, field, number = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
    redis.call('HSETNX', bucket, field, number)
    answers[#answers + 1] = redis.call('HGET', bucket, field) == number and 1 or 0
end
return answers
