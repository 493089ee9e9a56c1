/** Suite vmbus: the control plane over the SynICs, against the project's targets. */
import { CallCode, controlWord, encodePost } from "../src/synic/hypercall.ts";
import type { MessagePort } from "../src/synic/port.ts";
import { VMBUS_SINT } from "../src/synic/registers.ts";
import { platformOf } from "../src/vmbus/system/options.ts";
import { VmbusSystem } from "../src/vmbus/system/system.ts";
import { encodeMessage } from "../src/vmbus/wire/codec.ts";
import { DeviceType } from "../src/vmbus/wire/guid.ts";
import { MessageType } from "../src/vmbus/wire/messages.ts";
import { OfferFlag } from "../src/vmbus/wire/versions.ts";
import type { Case, Runner, Suite } from "./suite.ts";

const CHANNELS = 100;
const RINGS = { sendPages: 4, receivePages: 4 };
const CHECK_OPS = 200;
const HOST = "host, SNP";
const PARAVISOR = "paravisor, SNP";
/** The project's targets (ns). */
const MOST_CONNECT_NS = 50e6;
const MOST_MESSAGE_NS = 5000;

interface VmbusCase extends Case {
	readonly what: "connect" | "to guest" | "to server" | "echo";
}

const both = (atMost: number) => [HOST, PARAVISOR].map((of) => ({ of, atMost }));
const cases: VmbusCase[] = [
	{ name: `connect and open ${CHANNELS} channels`, what: "connect", targets: both(MOST_CONNECT_NS) },
	{ name: "message, from the server's post to the guest's handler", what: "to guest", targets: both(MOST_MESSAGE_NS) },
	{ name: "message, from the guest's post to the server's handler", what: "to server", targets: both(MOST_MESSAGE_NS) },
	{ name: "packet of 64 B sent, echoed and received", what: "echo" },
];

/** A system with devices; the guest is not connected yet. */
async function prepare(variant: string): Promise<{ system: VmbusSystem; echoed: () => number }> {
	let packets = 0;
	const isServed = variant === PARAVISOR;
	const system = await VmbusSystem.create({
		platform: platformOf("snp", isServed),
		paravisorServes: isServed,
		ramBytes: 2 ** 25,
		spareBytes: 2 ** 23,
		records: false,
		...(isServed ? { confidential: { how: "cpuid", eax: 1 << 3 } } : {}),
		onPacket: () => {
			packets++;
		},
	});
	for (let n = 1; n <= CHANNELS; n++) {
		const instanceId = `bec40000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
		const flags = isServed ? OfferFlag.ConfidentialRingBuffer : 0;
		(system.paravisor ?? system.host).offer({ interfaceId: DeviceType.Network, instanceId, flags });
	}
	return { system, echoed: () => packets };
}

function connect({ guest }: VmbusSystem): void {
	if (guest.connect().status !== "ok") throw new Error("the guest did not connect");
	for (let relid = 1; relid <= CHANNELS; relid++)
		if (guest.open(relid, RINGS).status !== "ok") throw new Error(`channel ${relid} was not opened`);
}

/** One whole connection a measurement; its end does not count. */
function connecting(system: VmbusSystem): Runner {
	const { guest } = system;
	const end = () => {
		if (guest.unload().status !== "ok") throw new Error("UNLOAD was not answered");
	};
	return {
		check() {
			connect(system);
			const digest = `connection ${guest.channels.size} ${guest.version}`;
			end();
			return digest;
		},
		batch: () => {},
		measure() {
			const start = process.hrtime.bigint();
			connect(system);
			const ns = Number(process.hrtime.bigint() - start);
			end();
			return ns;
		},
	};
}

function toGuest({ machine, paravisor }: VmbusSystem): Runner {
	const port: MessagePort = machine.guestPort(paravisor?.party ?? "hypervisor", 0, VMBUS_SINT);
	// a GPADL that nobody waits for: read, decoded, looked up
	const payload = encodeMessage({ type: MessageType.GpadlTorndown, gpadl: 5 });
	const batch = (ops: number) => {
		for (let i = 0; i < ops; i++) if (port.post(1, payload) !== 0) throw new Error("a message was not delivered");
	};
	return {
		batch,
		check() {
			batch(CHECK_OPS);
			return `to guest ${port.waiting}`;
		},
	};
}

function toServer({ machine }: VmbusSystem): Runner {
	// a channel that nobody knows: read, decoded, looked up
	const payload = encodeMessage({ type: MessageType.CloseChannel, relid: 2000 });
	const input = encodePost({ connectionId: 1, type: 1, payload });
	const control = controlWord(CallCode.PostMessage, false);
	const batch = (ops: number) => {
		for (let i = 0; i < ops; i++)
			if (machine.hypercall({ vp: 0, path: "direct", control, input }) !== 0n)
				throw new Error("a message was not taken");
	};
	return {
		batch,
		check() {
			batch(CHECK_OPS);
			return `to server ${CHECK_OPS}`;
		},
	};
}

function echo(system: VmbusSystem, echoed: () => number): Runner {
	const payload = new Uint8Array(64).fill(7);
	let id = 1n;
	const batch = (ops: number) => {
		for (let i = 0; i < ops; i++) {
			const status = system.guest.send(1, payload, { id: id++, wantsCompletion: true });
			if (status !== "ok") throw new Error(`a packet was not sent: ${status}`);
		}
	};
	return {
		batch,
		check() {
			batch(CHECK_OPS);
			return `echoed ${echoed()}`;
		},
	};
}

export const vmbus: Suite<VmbusCase> = {
	name: "vmbus",
	about:
		"VMBus over two SynICs: guest, server and echo devices over one RAM, each step decoded and checked. host: an SNP guest without paravisor, all shared; paravisor: Confidential VMBus with private rings.",
	variants: [HOST, PARAVISOR],
	engine: [HOST, PARAVISOR],
	cases,
	async open(variant, { what }) {
		const { system, echoed } = await prepare(variant);
		if (what === "connect") return connecting(system);
		connect(system);
		if (what === "to guest") return toGuest(system);
		return what === "to server" ? toServer(system) : echo(system, echoed);
	},
};
