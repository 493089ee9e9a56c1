/** A demonstration as data: for JSON, and for Wireshark. */
import { hexText } from "../decode/decoded.ts";
import { type CapturedBytes, pcapng } from "../decode/pcapng.ts";
import type { SystemEvent } from "../system/events.ts";
import type { Shown } from "./scenarios.ts";
import { eventText } from "./text.ts";

/** Plain data: bytes as hex, register values as 0x text. */
export function demoData({ events, ...rest }: Shown): object {
	const plain = (value: unknown) => {
		if (value instanceof Uint8Array) return hexText(value);
		return typeof value === "bigint" ? `0x${value.toString(16)}` : value;
	};
	const steps = events.map((event, i) => ({
		step: i + 1,
		...Object.fromEntries(Object.entries(event).map(([name, value]) => [name, plain(value)])),
		text: eventText(event),
	}));
	return { command: "vmbus demo", ...rest, events: steps };
}

/** HvSignalEvent's input. */
function signalInput(connectionId: number): Uint8Array {
	const bytes = new Uint8Array(8);
	new DataView(bytes.buffer).setUint32(0, connectionId, true);
	return bytes;
}

function captured(event: SystemEvent): CapturedBytes | null {
	const from = event.from === "guest" ? "guest" : "server";
	const common = { from, timeNs: BigInt(event.timeNs) } as const;
	switch (event.kind) {
		case "post":
		case "signal": {
			const { path, connectionId: id, trusted, status } = event;
			const call = { ...common, path, id, trusted, status: status ?? 0 };
			if (event.kind === "post") return { ...call, kind: "message", bytes: event.payload };
			return { ...call, kind: "hypercall", bytes: signalInput(id) };
		}
		case "message":
			return {
				...common,
				kind: "message",
				bytes: event.payload,
				vp: event.vp,
				synic: event.synic,
				trusted: event.synic === "paravisor",
			};
		case "relay": {
			// the paravisor is the host's guest here
			const relayed = event.from === "paravisor" ? "guest" : "server";
			return { ...common, kind: "message", from: relayed, bytes: event.payload, id: event.connectionId };
		}
		case "packet":
			return event.bytes.length === 0
				? null
				: { ...common, kind: "packet", bytes: event.bytes, id: event.relid, memory: event.ring };
		default:
			return null;
	}
}

/** All messages, signals and packets as a pcapng file. */
export function demoCapture({ events }: Shown): Uint8Array {
	return pcapng(events.map(captured).filter((one) => one !== null));
}
