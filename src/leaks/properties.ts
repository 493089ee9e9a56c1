/** The properties of confidential DMA that a monitor watches. */

/**
 * breach: data of an accepted device that others could read. exposure: what an untrusted device exposes as designed,
 * counted. fault: a rule of the kernel, the platform or the DMA API was broken.
 */
export type PropertyKind = "breach" | "exposure" | "fault";

/** A property: its `name` is what programs know it by. */
export interface Property {
	readonly name: PropertyName;
	/** What holds where nothing is reported. */
	readonly text: string;
	/** Of a finding about an untrusted device; exposures of an accepted one are breaches. */
	readonly kind: PropertyKind;
	/** Where the rule is from. */
	readonly source: string;
}

const SWIOTLB = "Linux 6.12 kernel/dma/swiotlb.c";
const DIRECT = "Linux 6.12 kernel/dma/direct.c and direct.h";
const LATE = "the series merged for Linux 7.3 (d5fd03cdd6c0, 20beb6884b83)";
const DMA_API = "Linux 6.12 Documentation/core-api/dma-api.rst";
const SWIOTLB_RST = "Linux 6.12 Documentation/core-api/swiotlb.rst";
const COCO_RST = "Linux 6.12 Documentation/virt/hyperv/coco.rst";
const CONFIDENTIAL_VMBUS = "Confidential VMBus in coco.rst, as posted in August 2025";
const TRUST = "discussion of device trust on linux-coco, April 2025 and February 2026";
const POOLS = "discussion of restricted pools and pKVM on linux-coco, May 2026";
const DERIVED = "derived from";

/** In the order in which reports tell them. */
const RULES = {
	"private-stays-private": {
		kind: "breach",
		text: "no byte of an accepted device's private pages is ever on a shared page",
		source: TRUST,
	},
	"no-t1-data-in-t0-window": {
		kind: "breach",
		text: "no data of a T=1 device reaches the DMA window of a T=0 device",
		source: POOLS,
	},
	"residue-in-freed-slots": { kind: "exposure", text: "freed shared slots hold no private bytes", source: SWIOTLB },
	"from-device-starts-as-copy": {
		kind: "fault",
		text: "a copy back brings only bytes that came to this mapping",
		source: SWIOTLB,
	},
	"initial-copy-shows-old-contents": {
		kind: "exposure",
		text: "the copy that starts a FROM_DEVICE mapping shows nothing private",
		source: `${DERIVED} ${SWIOTLB}`,
	},
	"padding-residue": {
		kind: "exposure",
		text: "the padding of a mapping's shared slots holds no private bytes",
		source: SWIOTLB_RST,
	},
	"sub-page-exposure": {
		kind: "exposure",
		text: "pages shared for a buffer hold nothing private beside it",
		source: POOLS,
	},
	"slot-has-one-owner": {
		kind: "fault",
		text: "no slot serves two mappings, no mapping crosses a slot set or boundary",
		source: SWIOTLB,
	},
	"lists-consistent": {
		kind: "fault",
		text: "free runs, slots in use and live mappings tell the same",
		source: SWIOTLB,
	},
	"alignment-kept": {
		kind: "fault",
		text: "a bounce address has the original's bits under min_align_mask",
		source: SWIOTLB,
	},
	"address-within-mask": {
		kind: "fault",
		text: "an address is within mask and bus limit, its encoding included",
		source: "Linux 6.12 include/linux/dma-direct.h",
	},
	"encoding-equals-state": { kind: "fault", text: "an address has the form of the pages that it names", source: LATE },
	"pool-state-equals-need": {
		kind: "fault",
		text: "a device bounces only in a pool whose state it needs",
		source: LATE,
	},
	"nothing-held-across-trust-change": {
		kind: "fault",
		text: "a device holds nothing while its trust changes",
		source: TRUST,
	},
	"t1-only-in-run": {
		kind: "fault",
		text: "private memory answers a device only while it is accepted and in RUN",
		source: TRUST,
	},
	"leaked-never-reused": {
		kind: "fault",
		text: "a page whose conversion failed never is free again",
		source: `${DIRECT}, and after the 7.3 merge`,
	},
	"no-touch-in-transition": {
		kind: "fault",
		text: "nobody touches a page that is in transition or leaked",
		source: COCO_RST,
	},
	"double-fetch": {
		kind: "fault",
		text: "an operation reads a shared byte once",
		source: `${DERIVED} the host's right to write shared pages at any time`,
	},
	"sync-ordering": {
		kind: "fault",
		text: "device and CPU touch a mapped buffer only while it is theirs",
		source: DMA_API,
	},
	"skip-sync-keeps-data": {
		kind: "fault",
		text: "an unmap that skips the copy back loses nothing that the driver reads later",
		source: DMA_API,
	},
	"use-after-unmap": {
		kind: "fault",
		text: "a device touches no slot or buffer without a live mapping of it",
		source: `${DERIVED} ${SWIOTLB}`,
	},
	"force-never-redirects-accepted": {
		kind: "breach",
		text: "swiotlb=force puts no accepted device's data in a shared pool",
		source: TRUST,
	},
	"fallback-claims-nothing": {
		kind: "fault",
		text: "no channel of a connection that is not confidential claims to be",
		source: CONFIDENTIAL_VMBUS,
	},
	"external-needs-ring": {
		kind: "fault",
		text: "confidential external memory comes with a confidential ring",
		source: CONFIDENTIAL_VMBUS,
	},
	"write-beyond-mapping": { kind: "fault", text: "a copy back ends where the mapped buffer ends", source: SWIOTLB },
	"counters-return-to-zero": {
		kind: "fault",
		text: "when all mappings have ended nothing counts as used",
		source: SWIOTLB,
	},
	"paravisor-page-unmapped": {
		kind: "breach",
		text: "a page that the host does not map stays so while it holds data",
		source: CONFIDENTIAL_VMBUS,
	},
	"accepted-coherent-private": {
		kind: "breach",
		text: "coherent buffers of an accepted device are private",
		source: `${DERIVED} ${DIRECT}`,
	},
} as const satisfies Readonly<Record<string, Omit<Property, "name">>>;

export type PropertyName = keyof typeof RULES;

/** Names in the order of reports. */
export const PROPERTY_NAMES = Object.keys(RULES) as readonly PropertyName[];

/** All properties by name. */
export const PROPERTIES = Object.fromEntries(
	PROPERTY_NAMES.map((name): [PropertyName, Property] => [name, { name, ...RULES[name] }]),
) as Readonly<Record<PropertyName, Property>>;
