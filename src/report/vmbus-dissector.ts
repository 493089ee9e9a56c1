/** The Wireshark dissector of VMBus captures (src/vmbus/decode/pcapng.ts): a script in Lua, from the table of messages. */
import { MAX_MESSAGE_BYTES } from "../synic/synic.ts";
import { IN_HEX } from "../vmbus/decode/meanings.ts";
import { FIELD_BYTES, type FieldSpec, MESSAGES, type MessageSpec, MessageType } from "../vmbus/wire/messages.ts";

/** Fields as Lua writes them; `size`: of the longer form that has them. */
function fieldTables(fields: MessageSpec["fields"], size?: number): string[] {
	const table = (at: number, kind: string, name: string, { from, below }: FieldSpec) => {
		const limits = Object.entries({ size, from, below }).filter(([, value]) => value !== undefined);
		return `{ ${[at, `"${kind}"`, `"${name}"`, ...limits.map(([key, value]) => `${key} = ${value}`)].join(", ")} }`;
	};
	return Object.entries(fields).flatMap(([name, field]) => {
		const { at, kind } = field;
		if (kind === "gpa") return [table(at, "u64", name, field)];
		if (kind === "gpaPair") return [table(at, "u64", name, field), table(at + 8, "u64", name, field)];
		// a field has one size in Wireshark
		return [table(at, kind, kind === "u32" && name === "sint" ? "sint32" : name, field)];
	});
}

function messageTable({ type, wire, bytes, fields, extensions }: MessageSpec): string {
	const longer = extensions.flatMap((extension) => fieldTables(extension.fields, extension.bytes));
	return `	[${type}] = { "${wire}", ${bytes}, { ${[...fieldTables(fields), ...longer].join(", ")} } },`;
}

/** The whole script. */
export function dissectorScript(): string {
	const messages = Object.values<MessageSpec>(MESSAGES).map(messageTable).join("\n");
	const sizes = Object.entries({ ...FIELD_BYTES, u64: FIELD_BYTES.gpa }).map(([kind, bytes]) => `${kind} = ${bytes}`);
	const hexNames = [...IN_HEX].map((name) => `${name} = true`).join(", ");
	return `-- Wireshark dissector for the pcapng files that coco-dma writes (link type USER0): VMBus channel messages, message slots,
-- ring packets and hypercalls, each behind a pseudo header of 16 bytes. Made by coco-dma from its table of messages.
--
--   tshark -X lua_script:FILE.lua -r FILE.pcapng
--   wireshark -X lua_script:FILE.lua FILE.pcapng

local vmbus = Proto("vmbus", "Hyper-V VMBus")

local SIZES = { ${sizes.join(", ")} }

-- Every message: name, size of its shortest form, fields {offset, kind, name}. A field with "from" or "below" is there
-- only in those versions of INITIATE_CONTACT, one with "size" only in a message of that size or more.
local MESSAGES = {
${messages}
}

local KINDS = { [1] = "message", [2] = "ring packet", [3] = "hypercall", [4] = "message slot" }
local PATHS = { [0] = "none", [1] = "hypercall", [2] = "GHCB", [3] = "tdcall" }
local SYNICS = { [0] = "none", [1] = "hypervisor", [2] = "paravisor" }
local MEMORIES = { [0] = "unknown", [1] = "shared with the host", [2] = "private" }
local PACKETS = { [6] = "in-band data", [7] = "transfer pages", [9] = "GPA direct", [11] = "completion" }
local TYPES = {}
for number, message in pairs(MESSAGES) do TYPES[number] = message[1] end

local fields = {
	kind = ProtoField.uint8("vmbus.kind", "Kind", base.DEC, KINDS),
	toGuest = ProtoField.bool("vmbus.to_guest", "Server to guest", 8, nil, 1),
	trusted = ProtoField.bool("vmbus.trusted", "Trusted", 8, nil, 2),
	path = ProtoField.uint8("vmbus.path", "Path", base.DEC, PATHS),
	vp = ProtoField.uint32("vmbus.vp", "Processor"),
	connection = ProtoField.uint32("vmbus.connection", "Connection id", base.HEX),
	channel = ProtoField.uint32("vmbus.channel", "Channel (relid)"),
	hvStatus = ProtoField.uint16("vmbus.hv_status", "Hypercall status"),
	synic = ProtoField.uint8("vmbus.synic", "SynIC", base.DEC, SYNICS),
	memory = ProtoField.uint8("vmbus.memory", "Memory", base.DEC, MEMORIES),
	type = ProtoField.uint32("vmbus.type", "Message type", base.DEC, TYPES),
	range = ProtoField.uint64("vmbus.range", "Range (bytes, offset)", base.HEX),
	pfn = ProtoField.uint64("vmbus.pfn", "Page number", base.HEX),
	packetType = ProtoField.uint16("vmbus.packet.type", "Packet type", base.DEC, PACKETS),
	offset8 = ProtoField.uint16("vmbus.packet.offset8", "Payload offset / 8"),
	len8 = ProtoField.uint16("vmbus.packet.len8", "Length / 8"),
	packetFlags = ProtoField.uint16("vmbus.packet.flags", "Packet flags", base.HEX),
	transaction = ProtoField.uint64("vmbus.packet.transaction", "Transaction id"),
	ranges = ProtoField.uint32("vmbus.packet.ranges", "Ranges"),
	transferSet = ProtoField.uint16("vmbus.packet.transfer_set", "Transfer page set", base.HEX),
	payload = ProtoField.bytes("vmbus.packet.payload", "Payload"),
	trailer = ProtoField.uint32("vmbus.packet.trailer", "Packet starts at", base.HEX),
	slotType = ProtoField.uint32("vmbus.slot.type", "Slot message type", base.HEX),
	slotSize = ProtoField.uint8("vmbus.slot.size", "Payload size"),
	slotFlags = ProtoField.uint8("vmbus.slot.flags", "Slot flags (1: pending)", base.HEX),
}
local IN_HEX = { ${hexNames} }
local function number(make)
	return function(abbreviation, name) return make(abbreviation, name, IN_HEX[name] and base.HEX or base.DEC) end
end
local makers = {
	u8 = number(ProtoField.uint8), u16 = number(ProtoField.uint16), u32 = number(ProtoField.uint32),
	u64 = function(abbreviation, name) return ProtoField.uint64(abbreviation, name, base.HEX) end,
	guid = ProtoField.guid, bytes120 = ProtoField.bytes,
}
for _, message in pairs(MESSAGES) do
	for _, field in ipairs(message[3]) do
		local kind, name = field[2], field[3]
		if makers[kind] and not fields["msg_" .. name] then
			fields["msg_" .. name] = makers[kind]("vmbus.msg." .. name, name)
		end
	end
end
vmbus.fields = fields

local malformed = ProtoExpert.new("vmbus.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
vmbus.experts = { malformed }

-- Range heads and page numbers in the quadwords of a GPADL message.
local function dissect_ranges(tvb, tree, at, has_heads)
	local left = has_heads and 0 or math.huge
	while at + 8 <= tvb:len() do
		if left == 0 then
			left = math.ceil((tvb(at, 4):le_uint() + tvb(at + 4, 4):le_uint()) / 4096)
			tree:add_le(fields.range, tvb(at, 8))
		else
			tree:add_le(fields.pfn, tvb(at, 8))
			left = left - 1
		end
		at = at + 8
	end
end

local function is_there(field, version, size)
	if field.size and size < field.size then return false end
	if field.from and version < field.from then return false end
	return not (field.below and version >= field.below)
end

local function dissect_message(tvb, pinfo, tree)
	if tvb:len() < 8 then
		tree:add_proto_expert_info(malformed, "shorter than a header")
		return "short message"
	end
	local number = tvb(0, 4):le_uint()
	tree:add_le(fields.type, tvb(0, 4))
	local message = MESSAGES[number]
	if not message then
		tree:add_proto_expert_info(malformed, "unknown message type")
		return "unknown message " .. number
	end
	local name, size, list = message[1], message[2], message[3]
	if tvb:len() < size then tree:add_proto_expert_info(malformed, "shorter than its type") end
	local version = (number == ${MessageType.InitiateContact} and tvb:len() >= 12) and tvb(8, 4):le_uint() or 0
	local info = name
	for _, field in ipairs(list) do
		local at, kind, label = field[1], field[2], field[3]
		if is_there(field, version, tvb:len()) then
			if kind == "quadwords" then
				if at <= tvb:len() then dissect_ranges(tvb, tree, at, number == ${MessageType.GpadlHeader}) end
			elseif at + SIZES[kind] <= tvb:len() then
				tree:add_le(fields["msg_" .. label], tvb(at, SIZES[kind]))
				if label == "relid" or label == "gpadl" or label == "status" then
					local shape = IN_HEX[label] and " %s 0x%x" or " %s %d"
					info = info .. string.format(shape, label, tvb(at, 4):le_uint())
				end
			end
		end
	end
	return info
end

local function dissect_slot(tvb, pinfo, tree)
	if tvb:len() < 16 then return "short slot" end
	tree:add_le(fields.slotType, tvb(0, 4))
	tree:add_le(fields.slotSize, tvb(4, 1))
	tree:add_le(fields.slotFlags, tvb(5, 1))
	local size = tvb(4, 1):uint()
	if tvb(0, 4):le_uint() ~= 1 then return string.format("slot of type 0x%x", tvb(0, 4):le_uint()) end
	if size == 0 or 16 + size > tvb:len() then return "slot without a message" end
	return dissect_message(tvb(16, size):tvb(), pinfo, tree)
end

-- The ranges in front of a packet's payload; has_pages: each is followed by its page numbers.
local function dissect_packet_ranges(tvb, tree, limit, has_pages)
	if limit < 24 then
		tree:add_proto_expert_info(malformed, "payload inside the range header")
		return
	end
	if not has_pages then tree:add_le(fields.transferSet, tvb(16, 2)) end
	local count = tvb(20, 4):le_uint()
	tree:add_le(fields.ranges, tvb(20, 4))
	local at = 24
	for _ = 1, count do
		if at + 8 > limit then
			tree:add_proto_expert_info(malformed, "ranges do not fit")
			return
		end
		local pages = math.ceil((tvb(at, 4):le_uint() + tvb(at + 4, 4):le_uint()) / 4096)
		tree:add_le(fields.range, tvb(at, 8))
		at = at + 8
		if has_pages then
			if at + 8 * pages > limit then
				tree:add_proto_expert_info(malformed, "page numbers do not fit")
				return
			end
			for page = 0, pages - 1 do tree:add_le(fields.pfn, tvb(at + 8 * page, 8)) end
			at = at + 8 * pages
		end
	end
end

local function dissect_packet(tvb, pinfo, tree)
	if tvb:len() < 16 then
		tree:add_proto_expert_info(malformed, "shorter than a descriptor")
		return "short packet"
	end
	local kind, first, last = tvb(0, 2):le_uint(), tvb(2, 2):le_uint() * 8, tvb(4, 2):le_uint() * 8
	tree:add_le(fields.packetType, tvb(0, 2))
	tree:add_le(fields.offset8, tvb(2, 2))
	tree:add_le(fields.len8, tvb(4, 2))
	tree:add_le(fields.packetFlags, tvb(6, 2))
	tree:add_le(fields.transaction, tvb(8, 8))
	local info = string.format("%s, %d bytes", PACKETS[kind] or ("packet of type " .. kind), last)
	if first < 16 or last < first then
		tree:add_proto_expert_info(malformed, "payload outside the packet")
		return info
	end
	local start = math.min(first, tvb:len())
	if kind == 7 or kind == 9 then dissect_packet_ranges(tvb, tree, start, kind == 9) end
	local stop = math.min(last, tvb:len())
	if stop > start then tree:add(fields.payload, tvb(start, stop - start)) end
	if tvb:len() >= last + 8 then tree:add_le(fields.trailer, tvb(last + 4, 4)) end
	return info
end

-- HvPostMessage's input of 256 bytes, or HvSignalEvent's of 8.
local function dissect_hypercall(tvb, pinfo, tree)
	if tvb:len() < 256 then return "HvSignalEvent" end
	local size = tvb(12, 4):le_uint()
	if size == 0 or size > ${MAX_MESSAGE_BYTES} then return "HvPostMessage" end
	return "HvPostMessage " .. dissect_message(tvb(16, size):tvb(), pinfo, tree)
end

local DISSECTORS = { dissect_message, dissect_packet, dissect_hypercall, dissect_slot }

function vmbus.dissector(tvb, pinfo, root)
	if tvb:len() < 16 or tvb(0, 1):uint() ~= 1 then return 0 end
	local kind, direction = tvb(1, 1):uint(), tvb(2, 1):uint()
	local tree = root:add(vmbus, tvb())
	tree:add(fields.kind, tvb(1, 1))
	tree:add(fields.toGuest, tvb(2, 1))
	tree:add(fields.trusted, tvb(2, 1))
	tree:add(fields.path, tvb(3, 1))
	tree:add_le(fields.vp, tvb(4, 4))
	tree:add_le(kind == 2 and fields.channel or fields.connection, tvb(8, 4))
	if kind == 3 then tree:add_le(fields.hvStatus, tvb(12, 2)) end
	tree:add(fields.synic, tvb(14, 1))
	tree:add(fields.memory, tvb(15, 1))
	pinfo.cols.protocol = "VMBus"
	pinfo.cols.src = direction % 2 == 1 and "server" or "guest"
	pinfo.cols.dst = direction % 2 == 1 and "guest" or "server"
	local dissect = DISSECTORS[kind]
	if dissect == nil then
		tree:add_proto_expert_info(malformed, "unknown kind")
	elseif tvb:len() == 16 then
		tree:add_proto_expert_info(malformed, "no bytes")
	else
		local info = dissect(tvb(16):tvb(), pinfo, tree)
		if kind == 2 then info = string.format("relid %d: %s", tvb(8, 4):le_uint(), info) end
		pinfo.cols.info = info
	end
	return tvb:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, vmbus)
`;
}
