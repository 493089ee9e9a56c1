// A simulator takes the guest side of VMBus over its own memory, and plays the host itself: message by message, packet by packet.
// Run after `npm run build`: node examples/vmbus-guest.js
import { Engine } from "coco-dma";
import { PacketType, RingPair } from "coco-dma/ring";
import {
	DeviceType,
	decodeMessage,
	describeMessage,
	encodeMessage,
	MessageType as M,
	pagesView,
	Version,
	VmbusGuest,
} from "coco-dma/vmbus";

const MIB = 2 ** 20;

// the simulator's memory: 16 MiB of guest RAM somewhere inside, all of it private at first
const memory = new WebAssembly.Memory({ initial: 512 });
const options = { ram: [{ gpa: 0, bytes: 16 * MIB, ptr: 8 * MIB }], swiotlb: null, memory, spareBytes: 65536 };
const context = { ptr: 1 * MIB, bytes: Engine.contextBytes(options) };
const engine = await Engine.create({ ...options, context });

// the host: what it answers to each message of the guest
let device = null;
let ringPages = [];
function answers(message) {
	switch (message.type) {
		case M.InitiateContact: {
			const supported = message.version === Version.V5_3 ? 1 : 0; // a host without 6.0
			return [{ type: M.VersionResponse, supported, connectionState: 0, connectionIdOrVersion: supported }];
		}
		case M.RequestOffers: {
			const offer = {
				type: M.OfferChannel,
				interfaceId: DeviceType.Network,
				instanceId: "0a0b0c0d-0000-4000-8000-000000000001",
				flags: 0,
				mmioMegabytes: 0,
				mmioMegabytesOptional: 0,
				userData: new Uint8Array(120),
				subChannelIndex: 0,
				relid: 1,
				monitorId: 255,
				monitorAllocated: 0,
				dedicatedInterrupt: 1,
				connectionId: 0x2001,
			};
			return [offer, { type: M.AllOffersDelivered }];
		}
		case M.GpadlHeader:
			ringPages = message.ranges.slice(1).map((pfn) => Number(pfn) * 4096); // the first quadword: bytes and offset
			return [{ type: M.GpadlCreated, relid: message.relid, gpadl: message.gpadl, status: 0 }];
		case M.OpenChannel:
			device = RingPair.attach(engine, { pages: ringPages, downstreamPage: message.downstreamPage, side: "device" });
			return [{ type: M.OpenChannelResult, relid: message.relid, openId: message.openId, status: 0 }];
		case M.GpadlTeardown:
			return [{ type: M.GpadlTorndown, gpadl: message.gpadl }];
		case M.Unload:
			return [{ type: M.UnloadResponse }];
		default:
			return [];
	}
}

const guest = new VmbusGuest({
	engine,
	isolation: "snp",
	ports: {
		post: (connectionId, _type, payload, path) => {
			console.log(`guest: ${describeMessage(payload).title.split(",")[0]} on connection ${connectionId}, path ${path}`);
			for (const answer of answers(decodeMessage(payload))) guest.message(encodeMessage(answer));
			return 0; // HvStatus: success
		},
		signal: (connectionId) => console.log(`guest: signals connection 0x${connectionId.toString(16)}`),
		callback: ({ relid }) => {
			for (const { bytes, offset, type, id } of guest.packets(relid)) {
				const isCompletion = type === PacketType.Completion;
				console.log(`guest: ${isCompletion ? "completion" : "packet"} ${id}: "${decode(bytes.subarray(offset))}"`);
			}
		},
	},
});
const decode = (bytes) => new TextDecoder().decode(bytes);

console.log("connect:", guest.connect().status);
console.log("open:", guest.open(1, { sendPages: 2, receivePages: 2 }).status);
guest.send(1, new TextEncoder().encode("read 7  "), { id: 7n, wantsCompletion: true });

// the host reads the shared ring, and nothing else
const host = pagesView(engine, "shared");
console.log("host: ring page", typeof host.read(ringPages[0], 4096) === "string" ? "refused" : "readable");
console.log("host: page 0", host.read(0, 4096));
for (const { id, payload } of device.reader.packets()) {
	console.log(`host: request ${id}: "${decode(payload)}"`);
	device.writer.complete(id, new TextEncoder().encode("block 7 "));
}
guest.event(1); // the channel's flag in the event page

console.log("unload:", guest.unload().status);
console.log("host: ring page", host.read(ringPages[0], 4096));
