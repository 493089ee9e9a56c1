import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));

const GUEST = `guest: INITIATE_CONTACT (14) on connection 4, path direct
guest: INITIATE_CONTACT (14) on connection 4, path direct
guest: REQUESTOFFERS (3) on connection 1, path direct
connect: ok
guest: GPADL_HEADER (8) on connection 1, path direct
guest: OPENCHANNEL (5) on connection 1, path direct
open: ok
guest: signals connection 0x2001
host: ring page readable
host: page 0 WRONG_PAGES
host: request 7: "read 7  "
guest: completion 7: "block 7 "
guest: UNLOAD (16) on connection 1, path direct
unload: ok
host: ring page WRONG_PAGES
`;

const SERVER = `hypercall: HvPostMessage connection 0x4: SUCCESS
vector 0xf3: message slot: VERSION_RESPONSE (15), server to guest
hypercall: HvPostMessage connection 0x1: SUCCESS
vector 0xf3: message slot: OFFERCHANNEL (1), server to guest
vector 0xf3: message slot: ALLOFFERS_DELIVERED (4), server to guest
hypercall: HvPostMessage connection 0x1: SUCCESS
vector 0xf3: message slot: GPADL_CREATED (10), server to guest
hypercall: HvPostMessage connection 0x1: SUCCESS
vector 0xf3: message slot: OPENCHANNEL_RESULT (6), server to guest
hypercall: HvSignalEvent connection 0x2001: SUCCESS
signal: taken
event flags 0b10, completion 5: "hello"
hypercall: HvPostMessage connection 0x1: SUCCESS
vector 0xf3: message slot: UNLOAD_RESPONSE (17), server to guest
server: Disconnected
`;

const BOTH = `connect: ok
channel 1, disk: open ok; the host reads of its ring: "hello 1."
channel 2, network: open ok; the host reads of its ring: WRONG_PAGES
channel 1 came back: "hello 1."
channel 2 came back: "hello 2."
unload: ok
7 hypercalls: message, direct to the paravisor
1 hypercalls: signal, ghcb to the hypervisor
1 hypercalls: signal, ghcb to the paravisor
10 interrupts from the paravisor's SynIC to processor 0
1 interrupts from the hypervisor's SynIC to processor 0
`;

describe("the VMBus examples", () => {
	it.each([
		["vmbus-guest.js", GUEST],
		["vmbus-server.js", SERVER],
		["vmbus-both.js", BOTH],
	])("%s prints the same as ever", (name, output) => {
		expect(execFileSync(process.execPath, [`${EXAMPLES}${name}`], { encoding: "utf8" })).toBe(output);
	});
});
