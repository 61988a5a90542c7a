-- What the scripts share. Before it stand two lines made from the program's own constants: `fields` (the names of the
-- index fields, in the order of their keys and values) and `ops_length` (how many bytes of op ids are kept).

-- The time now in microseconds: the server's clock, but never below what this partition was written at, nor below what
-- this client was told before (by another node of a cluster, perhaps).
local function time(clock, seen)
  local t = redis.call('TIME')
  return math.max(tonumber(t[1]) * 1000000 + tonumber(t[2]), tonumber(redis.call('GET', clock) or '0'), tonumber(seen))
end

local function whole(number) return string.format('%.0f', number) end

-- Op ids are digests of one length, the newest first.
local function known(ops, op) return string.find(ops, op, 1, true) ~= nil end
local function remembered(ops, op) return string.sub(op .. ops, 1, ops_length) end

-- A change of a sorted set, to be made later. Looks at the set first, because a script that fails half-way leaves what
-- it has written: when something else lies under the set's key, this raises before anything is.
local function move(changes, set, old, new)
  if old == new then return end
  redis.call('ZCARD', set)
  if old then changes[#changes + 1] = {'ZREM', set, old} end
  if new then changes[#changes + 1] = {'ZADD', set, '0', new} end
end

-- The last thing a write does. Whoever waits is told; nobody need be allowed to tell.
local function done(changes, clock, now, channel, writer)
  for _, change in ipairs(changes) do redis.call(unpack(change)) end
  redis.call('SET', clock, whole(now))
  redis.pcall('PUBLISH', channel, writer)
end
