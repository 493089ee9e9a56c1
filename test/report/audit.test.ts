import { describe, expect, it } from "vitest";
import type { AuditEvent } from "../../src/audit/events.ts";
import type { HistoryStep } from "../../src/leaks/history.ts";
import { PageState } from "../../src/memory/ram.ts";
import { auditReport } from "../../src/report/audit.ts";
import { renderText } from "../../src/report/render/text.ts";
import type { OwnerReport } from "../../src/study/audit.ts";
import { auditOf } from "../helpers/results.ts";

const text = (...audit: Parameters<typeof auditOf>) => renderText(auditReport(auditOf(...audit)), { color: false });
const lastLine = (...audit: Parameters<typeof auditOf>) =>
	text(...audit)
		.split("\n")
		.at(-1);

const EVENT: AuditEvent = {
	number: 0,
	kind: "write",
	device: 0,
	mapping: 0,
	dir: 0,
	status: null,
	timeNs: 9,
	gpa: 0x1000,
	from: -1,
	dma: -1,
	tlb: -1,
	bytes: 16,
	attrs: 0,
	state: PageState.Shared,
	label: 1,
	sharedBytes: 0,
	hiddenBytes: 0,
	acceptedBytes: 0,
	acceptedLabel: 0,
};

const OWNER: OwnerReport = {
	owner: "storvsc-full",
	confidential: true,
	sharedBytes: 8192,
	initialBytes: 4096,
	convertedBytes: 0,
	hiddenBytes: 0,
	standingBytes: 4096,
	standingPages: 1,
	residueBytes: 2048,
	oldestResidueNs: 78_400_000,
	endedResidueBytes: 0,
	meanResidueNs: 0,
	longestResidueNs: 0,
};

describe("the report of an audit", () => {
	it("begins with the policy, its rules and what ran", () => {
		expect(text().split("\n").slice(0, 4)).toEqual([
			"p: a title",
			"rules of Linux 6.12; no acceptance",
			"w: 10 requests, 40 KiB, on storvsc (storvsc-full) on snp",
			"1 direct maps, 2,000 bounced, 0 page conversions; refused commands: none",
		]);
	});

	it("ends with what it comes to", () => {
		expect(lastLine({ bytes: 4096 })).toBe(
			"BREACH: 4,096 bytes of an accepted device's data reached pages that the host reads.",
		);
		expect(lastLine({ bytes: 512, confidential: false, neighbourBytes: 16 })).toBe(
			"Exposed, as designed for a device that is not trusted: 512 bytes reached pages that the host reads. BREACH: 16 bytes of its neighbours did.",
		);
		expect(lastLine({})).toBe("No byte of the accepted device's data reached a page that the host reads.");
		expect(lastLine({ confidential: false, neighbourBytes: 16 })).toBe(
			"No byte of the device's data reached a page that the host reads. BREACH: 16 bytes of its neighbours did.",
		);
		expect(lastLine({ cause: { what: "no-fallback" } }, { drive: null })).toBe(
			"Nothing ran: the confidential connection failed, and the guest does not fall back.",
		);
	});

	it("says where the kernel crashed, what was refused, and what was not delivered, by its cause", () => {
		const crash = { what: "crash", where: "is_swiotlb_force_bounce", why: "NULL" } as const;
		const undelivered = [
			{ cause: { what: "device-gets", result: "other bytes" }, count: 1200 },
			{ cause: { what: "write-lost" }, count: 2 },
		] as const;
		const firstRefused = {
			request: 7,
			line: 8,
			bytes: 65536,
			status: "POOL_FULL",
			pool: { wantedSlots: 32, usedSlots: 120, slots: 128, longestFreeRunSlots: 8 },
			why: null,
		} as const;
		const drive = {
			commands: 1,
			refused: { POOL_FULL: 3 },
			firstRefused,
			crash,
			undelivered,
			wrongBytes: 1,
			sharedInPlace: 4,
		};
		const out = text({ cause: crash }, { drive });
		expect(out).toContain("4 page conversions; refused commands: 3 POOL_FULL\n");
		expect(out).toContain(
			"\nThe first was request 7 (line 8 of the trace), 65,536 bytes, POOL_FULL: 32 slots wanted, longest free run 8, 120 of 128 slots used.\n",
		);
		expect(out).toContain(
			"\nnot delivered: 1,200 the device gets other bytes, 2 the device's bytes do not arrive\ncrash: is_swiotlb_force_bounce: NULL\n",
		);
	});

	it("has a column an owner, times where there is residue, and the pages with most", () => {
		const pages = [{ gpa: 0x3000, owner: "guest", standingBytes: 1, everBytes: 4096 }];
		const out = text({ bytes: 8192 }, { owners: [OWNER], pages, pagesEver: 9, pagesStanding: 3 });
		expect(out).toMatch(
			/^ +storvsc-full \(confidential\)\nreached shared pages +8,192 B\n {2}by the first copy of FROM_DEVICE +4,096 B$/m,
		);
		expect(out).toMatch(/^ {2}the oldest since +78\.4 ms$/m);
		expect(out).toMatch(/^ {2}mean time +-$/m);
		expect(out).toContain(
			"\n\n9 pages ever held such bytes, 3 do at the end, the 1 with most:\npage    owner  now     ever\n0x3000  guest  1 B  4,096 B\n",
		);
	});

	it("tells the way of the first byte, and each property that did not hold with its first time", () => {
		const step = (role: HistoryStep["role"], event: Partial<AuditEvent>): HistoryStep => ({
			role,
			event: { ...EVENT, ...event },
			gpa: 0x1000,
			bouncedTo: role === "map" ? 0x5000 : null,
			times: 1,
		});
		const steps = [
			step("map", { number: 3, mapping: 14, device: 7, dir: 2, timeNs: 6_511_000 }),
			step("write", { number: 4, device: 8 }),
		];
		const history = { gpa: 0x1000, steps, complete: false, goneEvents: 2 };
		const first = { gpa: 0x1000, what: "breach", history, device: 7 } as const;
		const findings = [
			{
				property: "private-stays-private",
				kind: "breach",
				bytes: 4096,
				count: 2,
				longestNs: 1500,
				first: { gpa: null, device: null, mapping: null, event: null, page: null, text: "how it was" },
			},
		] as const;
		expect(text({ bytes: 1 }, { first, findings, notes: ["the log forgot"] })).toContain(`
The first breached byte, at gpa 0x1000:
          what stood there first came before event 2, gone from the log
  map     mapping 14 of "storvsc-full": 0x1000, 16 bytes FROM_DEVICE, bounced to 0x5000, event 3, at 6,511,000 ns
  write   gpa 0x1000 (16 bytes) by "device 8", shared page, event 4, at 9 ns

Properties that did not hold:
  private-stays-private (breach): 2 times, 4,096 bytes, up to 1.50 us
    first: how it was

note: the log forgot

BREACH: 1 bytes of`);
	});
});
