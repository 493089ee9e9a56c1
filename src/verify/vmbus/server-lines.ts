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

/** Whether a server can make the offer of a line `S offer {JSON}`: a recorded host may use any monitor id and relid. */
export function isOfferable(line: string): boolean {
	const number = (name: string) => Number(new RegExp(`"${name}": *(\\d+)`).exec(line)?.[1] ?? 1);
	return number("monitor") < MONITOR_IDS && number("relid") >= 1 && number("relid") <= MAX_CHANNELS;
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
