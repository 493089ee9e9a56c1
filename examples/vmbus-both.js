// A simulator takes both sides of Confidential VMBus over its own memory: a guest, a paravisor with a network device whose rings
// are private, and a relayed disk of the host. It watches hypercalls and interrupts, and reads what the host can read.
// Run after `npm run build`: node examples/vmbus-both.js
import { Engine } from "coco-dma";
import { CallCode } from "coco-dma/synic";
import { DeviceType, OfferFlag, pagesView, VmbusSystem } from "coco-dma/vmbus";

const MIB = 2 ** 20;
const memory = new WebAssembly.Memory({ initial: 512 });
const options = { ram: [{ gpa: 0, bytes: 16 * MIB, ptr: 8 * MIB }], swiotlb: null, memory, spareBytes: MIB };
const engine = await Engine.create({ ...options, context: { ptr: MIB, bytes: Engine.contextBytes(options) } });

const calls = new Map();
const interrupts = new Map();
const count = (map, key) => map.set(key, (map.get(key) ?? 0) + 1);
const received = [];
const system = await VmbusSystem.create({
	engine,
	platform: { isolation: "snp", paravisor: true, sharedGpaBoundary: 2 ** 46 },
	paravisorServes: true,
	relays: true,
	confidential: { how: "cpuid", eax: 8 }, // CPUID leaf 0x40000082
	onHypercall: ({ code, path, by }) =>
		count(calls, `${code === CallCode.PostMessage ? "message" : "signal"}, ${path} to the ${by}`),
	onInterrupt: ({ source, vp }) => count(interrupts, `from the ${source}'s SynIC to processor ${vp}`),
	onPacket: ({ relid }, { bytes, offset }) => received.push([relid, new TextDecoder().decode(bytes.subarray(offset))]),
});
const instance = (n) => `0a0b0c0d-0000-4000-8000-00000000000${n}`;
const flags = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;
system.paravisor.offer({ interfaceId: DeviceType.Network, instanceId: instance(1), flags });
system.host.offer({ interfaceId: DeviceType.Scsi, instanceId: instance(2), flags }); // not the host's to say
system.startRelay();

console.log("connect:", system.guest.connect().status);
const host = pagesView(engine, "shared");
for (const [relid, { offer }] of system.guest.channels) {
	const { status } = system.guest.open(relid, { sendPages: 2, receivePages: 2 });
	system.send(relid, new TextEncoder().encode(`hello ${relid}.`), { id: BigInt(relid), wantsCompletion: true });
	const ring = system.guest.channels.get(relid).ring.gpa + 4096; // behind the header page
	const seen = host.read(ring, 4096);
	const device = offer.interfaceId === DeviceType.Network ? "network" : "disk";
	const what = typeof seen === "string" ? seen : `"${new TextDecoder().decode(seen.subarray(16, 24))}"`;
	console.log(`channel ${relid}, ${device}: open ${status}; the host reads of its ring: ${what}`);
}
for (const [relid, text] of received) console.log(`channel ${relid} came back: "${text}"`);
console.log("unload:", system.guest.unload().status);
for (const [what, times] of calls) console.log(`${times} hypercalls: ${what}`);
for (const [what, times] of interrupts) console.log(`${times} interrupts ${what}`);
