-- Abandons a number that was assigned and never journaled, or was left; its subject gets another one when it joins again.
-- KEYS the subject's bucket. ARGV field, number: the arrival number. Returns: 1.
if redis.call('HGET', KEYS[1], field) == number then
    redis.call('HDEL', KEYS[1], field)
end
return 1
