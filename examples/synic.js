// A guest on SEV-SNP posts a message and signals an event, to its paravisor and to the host: which way each call takes, who
// takes it, and what answers. Run after `npm run build`: node examples/synic.js
import { Engine, PageState } from "coco-dma";
import { GuestCalls, GuestSynic, hvStatusName, SynicMachine, VMBUS_SINT } from "coco-dma/synic";
import { EnginePages } from "coco-dma/vmbus";

const HOST_PAGES = 0x100000; // the hypervisor's message and event page: shared, and given to the guest by the paravisor

const engine = await Engine.create({ ram: "4M", swiotlb: null });
const platform = { isolation: "snp", paravisor: true, sharedGpaBoundary: 2 ** 46 };
const text = (bytes) => `"${new TextDecoder().decode(bytes)}"`;

// outside the guest: two SynICs, and a connection of each party
const machine = new SynicMachine({
	platform,
	vps: 1,
	ram: engine.ram,
	onInterrupt: ({ vp, vector, source, proxied }) => {
		console.log(`  interrupt 0x${vector.toString(16)} from the ${source}'s SynIC${proxied ? ", let through" : ""}`);
		synic.takeEvents(vp, (flag) => console.log(`  guest: event flag ${flag}`));
		synic.takeMessages(vp, ({ payload, source }) => console.log(`  guest: ${text(payload)} in the ${source}'s page`));
	},
	onHypercall: ({ path, by, trusted, status }) =>
		console.log(`  ${path} to the ${by}, ${trusted ? "trusted" : "not trusted"}: ${hvStatusName(status)}`),
});
engine.ram.convert(HOST_PAGES, 8192, PageState.Shared);
machine.givePages(0, HOST_PAGES, HOST_PAGES + 4096);
const port = machine.guestPort("paravisor", 0, VMBUS_SINT);
machine.connections.paravisor.bindMessages(1, {
	post: (type, payload) => port.post(type, payload.toReversed()),
});
let flag = 7;
machine.connections.hypervisor.bindEvents(0x2001, {
	signal: () => machine.signalGuest("hypervisor", 0, VMBUS_SINT, flag++),
});

// the guest, which uses Confidential VMBus: its pages, its registers, its hypercalls
const guest = {
	platform,
	confidential: true,
	vps: 1,
	ram: engine.ram,
	pages: EnginePages.over(engine, [{ gpa: 0x200000, bytes: 0x100000 }]),
};
const synic = new GuestSynic({ ...guest, registers: machine });
const calls = new GuestCalls({ ...guest, hypercall: (call) => machine.hypercall(call) });
console.log("pages:", synic.allocate(), calls.allocateInputs());
console.log("registers:", synic.enable(0) ? "set" : "refused");

console.log("a message to the paravisor");
calls.post(0, 1, 1, new TextEncoder().encode("hello"));
console.log("a message to a connection that nobody has");
calls.post(0, 9, 1, new Uint8Array(8));
console.log("a signal to the host's device: the paravisor keeps the interrupt of its answer back");
calls.signal(0, 0x2001);
console.log("the same, when the paravisor relays the SINT");
machine.proxy.relay(VMBUS_SINT);
calls.signal(0, 0x2001);
