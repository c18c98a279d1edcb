"""What Redis does in one step, in Lua: each script changes all that belongs together, or nothing.

Every key has an expiry and lies under one hash tag, `{prefix}:`, so that a Redis Cluster keeps all in one slot.
`{prefix}:lease:<key of a stream>` has a lease as `Lease.value` writes it, `{prefix}:node:<id>` a node's entry,
`{prefix}:quiet:<key of a room>` is there while the room is not to be disturbed. Sorted sets list them, with the time of
their expiry by Redis' own clock: nobody's clock but that counts. `{prefix}:sequence` numbers the changes, which are
published on the channel `{prefix}:changes` as `<number>\\n<kind>\\n<text>`.

All scripts get the prefix as KEYS[1]; what else they touch begins with it.
"""

from __future__ import annotations

LEASE_MS = 6000
"""How long a node that does not renew its lease has it. Three renewals may be late or lost."""
INDEX_MS = 60_000
"""How long the sorted sets outlive their last change; they are renewed with the leases."""
DAY_MS = 86_400_000
"""How long numbers and the secret outlive the last node."""

_COMMON = f"""
local prefix = KEYS[1]
local lease_ms, index_ms, day_ms = {LEASE_MS}, {INDEX_MS}, {DAY_MS}
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = time[1] * 1000000 + time[2]

local function publish(kind, text)
    local number = redis.call('INCR', prefix .. ':sequence')
    redis.call('PEXPIRE', prefix .. ':sequence', day_ms)
    redis.call('PUBLISH', prefix .. ':changes', number .. '\\n' .. kind .. '\\n' .. text)
end

local function keep(kind, member, value, ms)
    redis.call('SET', prefix .. ':' .. kind .. ':' .. member, value, 'PX', ms)
    redis.call('ZADD', prefix .. ':' .. kind .. 's', now_ms + ms, member)
    local left = redis.call('PTTL', prefix .. ':' .. kind .. 's')
    redis.call('PEXPIRE', prefix .. ':' .. kind .. 's', math.max(index_ms, ms, left))
end

local function forget(kind, member)
    redis.call('DEL', prefix .. ':' .. kind .. ':' .. member)
    redis.call('ZREM', prefix .. ':' .. kind .. 's', member)
end

local function alive(kind)
    redis.call('ZREMRANGEBYSCORE', prefix .. ':' .. kind .. 's', '-inf', now_ms)
    return redis.call('ZRANGE', prefix .. ':' .. kind .. 's', 0, -1)
end

local function owner(value)
    local epoch, node, resume = string.match(value, '^(%d+)\\n(%x+)\\n(%x*)\\n')
    return tonumber(epoch) or 0, node or '', resume or ''
end
"""

CLAIM = (
    _COMMON
    + """
local key, node, least, proof, takes, resume, entry = unpack(ARGV)
least = tonumber(least)
local stored = redis.call('GET', prefix .. ':lease:' .. key)
if stored then
    local epoch, holder, digest = owner(stored)
    local is_proved = takes == '1' or (proof ~= '' and proof == digest)
    if holder ~= node and not is_proved and redis.call('EXISTS', prefix .. ':node:' .. holder) == 1 then
        return {'taken', stored}
    end
    least = math.max(least, epoch)
end
local value = string.format('%.0f', math.max(least + 1, now_us)) .. '\\n' .. node .. '\\n' .. resume .. '\\n' .. entry
keep('lease', key, value, lease_ms)
publish('lease', key .. '\\n' .. value)
return {'claimed', value}
"""
)
"""ARGV: the stream's key, the node, the highest epoch that it has seen, the digest of a key that the claimant brings,
1 to take the lease from whoever has it, the digest of the new key, the entry. `claimed` or `taken`, and the lease."""

RENEW = (
    _COMMON
    + """
local id, entry, is_changed, secret, ping = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local former = redis.call('GET', prefix .. ':node:' .. id)
if not former or (is_changed == '1' and former ~= entry) then
    publish('node', entry)
end
keep('node', id, entry, lease_ms)
redis.call('SET', prefix .. ':secret', secret, 'NX', 'PX', day_ms)
redis.call('PEXPIRE', prefix .. ':secret', day_ms)
local lost = {}
for index = 6, #ARGV, 2 do
    local key, value = ARGV[index], ARGV[index + 1]
    local stored = redis.call('GET', prefix .. ':lease:' .. key)
    local epoch, node = owner(value)
    local stored_epoch, holder = 0, ''
    if stored then
        stored_epoch, holder = owner(stored)
    end
    if stored_epoch > epoch or (stored_epoch == epoch and holder > node) then
        lost[#lost + 1] = key
        lost[#lost + 1] = stored
    else
        keep('lease', key, value, lease_ms)
        if stored ~= value then
            publish('lease', key .. '\\n' .. value)
        end
    end
end
redis.call('PUBLISH', prefix .. ':ping:' .. id, ping)
return {redis.call('GET', prefix .. ':sequence') or '0', redis.call('GET', prefix .. ':secret'), alive('node'), lost}
"""
)
"""ARGV: the node's id, its entry, 1 if that is to be told where it is another one, the secret that it knows, the text
for its own channel; then keys and leases. The sequence, the secret, the ids of the nodes that are there, and keys and
leases of what others have now. A lease that is not there any more is there again."""

RELEASE = (
    _COMMON
    + """
for index = 1, #ARGV, 2 do
    local key, value = ARGV[index], ARGV[index + 1]
    local epoch, node = owner(value)
    local stored = redis.call('GET', prefix .. ':lease:' .. key)
    if stored then
        local stored_epoch, holder = owner(stored)
        if stored_epoch == epoch and holder == node then
            forget('lease', key)
            publish('released', key .. '\\n' .. value)
        end
    end
end
"""
)
"""ARGV: keys and leases, which end if they are still the node's."""

LEAVE = (
    _COMMON
    + """
forget('node', ARGV[1])
publish('node_gone', ARGV[1])
"""
)
"""ARGV: the id of a node that stops."""

QUIET = (
    _COMMON
    + """
local room, ms = ARGV[1], tonumber(ARGV[2])
if ms > 0 then
    keep('quiet', room, '1', ms)
else
    forget('quiet', room)
end
publish('quiet', room .. '\\n' .. string.format('%.0f', ms))
"""
)
"""ARGV: a room's key, for how many milliseconds it is not to be disturbed, 0 for no more."""

READ = (
    _COMMON
    + """
local function values(kind, members)
    local found = {}
    for _, member in ipairs(members) do
        found[#found + 1] = redis.call('GET', prefix .. ':' .. kind .. ':' .. member) or ''
    end
    return found
end
local keys, rooms, left = alive('lease'), alive('quiet'), {}
for _, room in ipairs(rooms) do
    left[#left + 1] = redis.call('PTTL', prefix .. ':quiet:' .. room)
end
local sequence = redis.call('GET', prefix .. ':sequence') or '0'
return {sequence, values('node', alive('node')), keys, values('lease', keys), rooms, left}
"""
)
"""The sequence, the nodes, keys and leases of all streams, and rooms that are not to be disturbed with the milliseconds
that this lasts."""
