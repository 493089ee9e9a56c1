// A virtual machine monitor takes the server side of VMBus: its guest's hypercalls and SynIC registers go to a SynicMachine,
// its own device answers through the rings. The guest here is a few lines that do what its driver would do.
// Run after `npm run build`: node examples/vmbus-server.js
import { Engine } from "coco-dma";
import { RingPair } from "coco-dma/ring";
import {
	CallCode,
	controlWord,
	encodePost,
	encodeSignal,
	HvStatus,
	hvStatusName,
	Msr,
	SynicMachine,
	sintMsr,
	VMBUS_SINT,
	VMBUS_VECTOR,
} from "coco-dma/synic";
import {
	DeviceType,
	describeSlot,
	EchoDevice,
	encodeMessage,
	MessageType as M,
	pagesView,
	Version,
	VmbusServer,
} from "coco-dma/vmbus";

const engine = await Engine.create({ ram: "4M", swiotlb: null, coco: false });
const server = new VmbusServer();

// the monitor: interrupts go to its virtual processors, hypercalls to the server
const interrupts = [];
const machine = new SynicMachine({
	platform: { isolation: "none", paravisor: false, sharedGpaBoundary: 0 },
	vps: 1,
	ram: engine.ram,
	onInterrupt: (interrupt) => interrupts.push(interrupt),
	onHypercall: ({ code, connectionId, status }) => {
		const name = code === CallCode.PostMessage ? "HvPostMessage" : "HvSignalEvent";
		console.log(`hypercall: ${name} connection 0x${connectionId.toString(16)}: ${hvStatusName(status)}`);
	},
});
const slot = machine.guestPort("hypervisor", 0, VMBUS_SINT);

// does what the server asks for
let device = null;
function perform(actions) {
	for (const action of actions) {
		if (action.type === "send") slot.post(1, action.payload);
		else if (action.type === "connect") perform(server.complete({ type: "connect", state: 0 }));
		else {
			if (action.type === "open") {
				const signal = () => device.service();
				machine.connections.hypervisor.bindEvents(action.connectionId, { signal });
			}
			const completion = device?.handle(action) ?? null;
			if (completion !== null) perform(server.complete(completion));
		}
	}
}
for (const id of [1, 4]) {
	machine.connections.hypervisor.bindMessages(id, {
		post: (_type, payload) => {
			const { status, actions } = server.post({ connectionId: id, payload });
			perform(actions);
			return status;
		},
	});
}
const { offerId } = server.offer({
	interfaceId: DeviceType.Network,
	instanceId: "0a0b0c0d-0000-4000-8000-000000000001",
});
device = new EchoDevice({
	engine,
	offerId,
	views: { shared: pagesView(engine, "shared"), private: null },
	onSignal: () => machine.signalGuest("hypervisor", 0, VMBUS_SINT, server.channel(offerId).info.relid),
});

// the guest: its message page, its event page and a page for hypercall input
const [SIMP, SIEFP, INPUT, RING] = [0x10000, 0x11000, 0x12000, 0x20000];
machine.writeRegister(0, "hypervisor", Msr.SIMP, BigInt(SIMP | 1));
machine.writeRegister(0, "hypervisor", Msr.SIEFP, BigInt(SIEFP | 1));
machine.writeRegister(0, "hypervisor", sintMsr(VMBUS_SINT), BigInt(VMBUS_VECTOR));
machine.writeRegister(0, "hypervisor", Msr.SCONTROL, 1n);

function post(connectionId, message) {
	engine.ram.write(INPUT, encodePost({ connectionId, type: 1, payload: encodeMessage(message) }));
	machine.hypercall({ vp: 0, path: "direct", control: controlWord(CallCode.PostMessage, false), input: BigInt(INPUT) });
	while (interrupts.length > 0) takeMessage(interrupts.shift());
}
function takeMessage({ vector }) {
	const at = SIMP + VMBUS_SINT * 256;
	const message = engine.ram.read(at, 256);
	if (message[0] === 0) return;
	console.log(`vector 0x${vector.toString(16)}: ${describeSlot(message).title}`);
	engine.ram.write(at, new Uint8Array(4)); // the slot is free
	machine.writeRegister(0, "hypervisor", Msr.EOM, 0n); // and the next message may come
}

const contact = { version: Version.V5_3, targetVp: 0, sint: 2, vtl: 0, monitorPages: [0x13000, 0x14000] };
post(4, { type: M.InitiateContact, ...contact });
post(1, { type: M.RequestOffers });
const pages = [0, 1, 2, 3].map((i) => RING + i * 4096);
const ranges = [4n * 4096n, ...pages.map((gpa) => BigInt(gpa / 4096))];
post(1, { type: M.GpadlHeader, relid: 1, gpadl: 1, rangeBytes: 8 * ranges.length, rangeCount: 1, ranges });
const rings = RingPair.attach(engine, { pages, downstreamPage: 2, side: "guest", onSignal: signal });
const userData = new Uint8Array(120);
post(1, { type: M.OpenChannel, relid: 1, openId: 1, ringGpadl: 1, targetVp: 0, downstreamPage: 2, userData });

function signal() {
	const input = encodeSignal({ connectionId: 0x2001, flag: 0 });
	const result = machine.hypercall({ vp: 0, path: "direct", control: controlWord(CallCode.SignalEvent, true), input });
	console.log("signal:", Number(result) === HvStatus.SUCCESS ? "taken" : "refused");
}
rings.writer.send(new TextEncoder().encode("hello"), { id: 5n, wantsCompletion: true });
const flags = engine.ram.read(SIEFP + VMBUS_SINT * 256, 1)[0];
const { id, payload } = rings.reader.receive();
console.log(
	`event flags 0b${flags.toString(2)}, completion ${id}: "${new TextDecoder().decode(payload.subarray(0, 5))}"`,
);
post(1, { type: M.Unload });
console.log("server:", server.connection.name);
