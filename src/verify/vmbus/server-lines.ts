/** The lines of a transcript that say what the recorded host is: its server, and what it offers. */
import { bytesOfHex } from "../../bytes.ts";
import type { Fields } from "../../fields.ts";
import type { ServerConfig } from "../../vmbus/server/config.ts";
import { MAX_CHANNELS, type OfferOptions } from "../../vmbus/server/offers.ts";
import { MONITOR_IDS } from "../../vmbus/wire/values.ts";
import { ConnectionId } from "../../vmbus/wire/versions.ts";

/** `S server versions= conn_ids= msg_conn=`. @throws InputError that names the field */
export function readServer(f: Fields, vtl: number): ServerConfig {
	const hexes = (index: number, name: string): number[] => {
		const text = f.text(index, name);
		if (!text.startsWith(`${name}=`)) throw f.error(name, `"${name}="`, text);
		const list = text.slice(name.length + 1);
		if (!/^([0-9a-f]{1,8}(,[0-9a-f]{1,8})*)?$/.test(list)) throw f.error(name, "hex numbers", list);
		return list === "" ? [] : list.split(",").map((one) => Number.parseInt(one, 16));
	};
	const ids = hexes(3, "conn_ids");
	const [messageConnectionId = ConnectionId.Message] = hexes(4, "msg_conn");
	const all = ids.length === 0 ? [] : [...new Set([...ids, messageConnectionId])];
	return {
		versions: hexes(2, "versions"),
		messageConnectionId,
		ports: all.map((connectionId) => ({ connectionId, multiclient: connectionId !== ConnectionId.Message })),
		vtl,
		// the recorded hosts are older than confidential channels
		oldOfferFlags: true,
	};
}

/** What a recorded host offers, for it may offer what no server can: ids out of range, a relid or an instance twice. */
export class OfferBook {
	/** By relid, the channel of the last line that offers it. */
	readonly #offers = new Map<number, string>();
	/** Those that the guest was offered and that were not taken back. */
	readonly #live = new Map<number, string>();

	/**
	 * A line `S offer {JSON}`. @param connected later ones are offered by an act
	 * @returns whether a server can make it; what is no such line is left to its reader
	 */
	note(line: string, connected: boolean): boolean {
		let read: Record<string, unknown> | null;
		try {
			read = JSON.parse(line.trim().slice("S offer ".length));
		} catch {
			return true;
		}
		const { relid, monitor } = read ?? {};
		if (typeof relid !== "number") return true;
		this.#offers.set(relid, [read?.type, read?.instance, read?.sub].join(" "));
		const hasMonitor = typeof monitor !== "number" || monitor < MONITOR_IDS;
		return hasMonitor && relid >= 1 && relid <= MAX_CHANNELS && (connected || this.offer(relid));
	}

	/** A noted channel is offered. @returns whether a server can, beside those that there are */
	offer(relid: number): boolean {
		const channel = this.#offers.get(relid);
		if (channel === undefined) return true;
		const isThere = this.#live.has(relid) || [...this.#live.values()].includes(channel);
		this.#live.set(relid, channel);
		return !isThere;
	}

	/** A channel is taken back, a primary with its sub-channels. */
	rescind(relid: number): void {
		const [type, instance, sub] = this.#live.get(relid)?.split(" ") ?? [];
		for (const [other, channel] of this.#live)
			if (other === relid || (sub === "0" && channel.startsWith(`${type} ${instance} `))) this.#live.delete(other);
	}
}

/** `S offer {JSON}`: what it holds is checked when it is offered. @throws InputError that names the field */
export function readOffer(f: Fields, line: string): OfferOptions & { readonly relid: number } {
	const json = line.trim().slice("S offer ".length);
	let read: Record<string, unknown>;
	try {
		read = JSON.parse(json);
	} catch {
		throw f.error("offer", "JSON", json.slice(0, 40));
	}
	if (typeof read !== "object" || read === null || typeof read.relid !== "number")
		throw f.error("offer", "a JSON object with a relid");
	if (typeof read.user !== "string" || !/^([0-9a-f]{2})*$/.test(read.user)) throw f.error("user", "hex digits");
	return {
		interfaceId: read.type,
		instanceId: read.instance,
		subChannelIndex: read.sub,
		flags: read.flags,
		mmioMegabytes: read.mmio,
		userData: bytesOfHex(read.user),
		monitorId: read.monitor,
		dedicatedInterrupt: read.dedicated === 1,
		relid: read.relid,
		connectionId: read.conn,
	} as OfferOptions & { readonly relid: number };
}
