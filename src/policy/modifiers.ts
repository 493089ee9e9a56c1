/** Named changes that go on top of any policy. */
import type { Mechanism, Policy } from "../coco/rules/policy.ts";
import { code } from "../coco/rules/reference.ts";
import type { Modifier, PolicySetup } from "./setup.ts";
import {
	BITFIELD_THREAD,
	KISEL_DOCS,
	MERGED_7_3,
	MURPHY_ON_V2,
	ON_POOL_STATE_V4,
	POOL_STATE_V4,
	SHARING_MEASURED,
	ZEROCOPY_TX,
} from "./sources.ts";

/** Replaces fields of the policy. */
function policyWith(setup: PolicySetup, fields: Partial<Policy>): PolicySetup {
	return { ...setup, policy: { ...setup.policy, ...fields } };
}

/** Replaces bouncing, and nothing that is no bouncing. */
function insteadOfBouncing(setup: PolicySetup, mechanism: Mechanism): PolicySetup {
	const { accepted = "bounce", others = "bounce" } = setup.policy.mechanism ?? {};
	const changed = (before: Mechanism) => (before === "bounce" ? mechanism : before);
	return policyWith(setup, { mechanism: { accepted: changed(accepted), others: changed(others) } });
}

/** Lets through what a policy refuses on grounds of state. */
export function advised(policy: Policy): Policy {
	const { accepted = "bounce", others = "bounce" } = policy.mechanism ?? {};
	const letThrough = (mechanism: Mechanism) => (mechanism === "refuse" ? "bounce" : mechanism);
	return {
		...policy,
		checksPoolState: false,
		transitions: "anytime",
		mechanism: { accepted: letThrough(accepted), others: letThrough(others) },
	};
}

const STRAY_READS = code("6.12", "Documentation/virt/hyperv/coco.rst", "load_unaligned_zeropad");
const HARDWARE = "a property of the hardware, beside the policy";

/** The modifiers. A setup takes each at most once; their order changes nothing but its name. */
export const MODIFIERS: readonly Modifier[] = [
	{
		name: "force",
		title: "swiotlb=force on the command line",
		source: "Robin Murphy, February 2026: do not run confidential workloads with it",
		references: [MURPHY_ON_V2],
		apply: (setup) => ({ ...setup, guest: { ...setup.guest, force: true } }),
	},
	{
		name: "advisory",
		title: "what is refused on grounds of state (pool, transition, strict) is let through and only counted",
		source: "Dan Williams, April 2025: leave it to userspace what a device gets to see",
		references: [BITFIELD_THREAD],
		apply: (setup) => ({ ...setup, advisory: true }),
	},
	{
		name: "no-driver",
		title: "user space does not load the device's driver: nothing is mapped",
		source: "Dan Williams, April 2025: what is not to be trusted with data may be left without its driver",
		references: [BITFIELD_THREAD],
		apply: (setup) => ({ ...setup, loadsDriver: false }),
	},
	{
		name: "no-secrets",
		title: "user space withholds secrets from the device: only pages without any are mapped and bounced",
		source: "Dan Williams, April 2025: leave it to userspace what a device gets to see",
		references: [BITFIELD_THREAD],
		apply: (setup) => ({ ...setup, handsSecrets: false }),
	},
	{
		name: "strict",
		title: "an error instead of bouncing, for devices that the policy knows accepted",
		source: "Michael Kelley's question, April 2025: a formal do-not-bounce",
		references: [BITFIELD_THREAD],
		apply: (setup) => policyWith(setup, { mechanism: { ...setup.policy.mechanism, accepted: "refuse" } }),
	},
	{
		name: "pool-wins",
		title: "the pool's property decides how its addresses look, and nothing is refused for it",
		source: "Mostafa Saleh, May 2026, on Aneesh Kumar K.V's v4",
		references: ON_POOL_STATE_V4,
		apply: (setup) => policyWith(setup, { checksPoolState: false, decryptsRestricted: true }),
	},
	{
		name: "request-wins",
		title:
			"the pool's state must be what the device needs (7.3), and restricted pools are decrypted only with CC_ATTR_MEM_ENCRYPT",
		source: "Aneesh Kumar K.V, v4, May 2026",
		references: [POOL_STATE_V4, ...ON_POOL_STATE_V4],
		apply: (setup) => policyWith(setup, { checksPoolState: true, decryptsRestricted: false }),
	},
	{
		name: "share-in-place",
		title: "pages are shared with the host for the time of a mapping, where the buffer would bounce",
		source:
			"Mostafa Saleh, May and June 2026: measured much slower than copying; the rest of the page is shared with it",
		references: [...ON_POOL_STATE_V4, SHARING_MEASURED],
		apply: (setup) => insteadOfBouncing(setup, "share-in-place"),
	},
	{
		name: "pre-shared",
		title: "drivers take 90 percent of their streaming buffers from memory that is shared for good",
		source: "Luigi Rizzo, June 2026: socket buffers straight from swiotlb, zerocopy_tx_percent",
		references: ZEROCOPY_TX,
		apply: (setup) => policyWith(setup, { preSharedPercent: 90 }),
	},
	{
		name: "mmio-shared",
		title: "drivers pass CC_SHARED with MMIO",
		source: "Jason Gunthorpe, 2026, on Aneesh Kumar K.V's series: MMIO peer-to-peer should be fixed in drivers",
		references: MERGED_7_3,
		apply: (setup) => ({ ...setup, mmioShared: true }),
	},
	{
		name: "fallback",
		title: "the confidential VMBus connection fails, and the guest falls back: offers then claim nothing",
		source: "Roman Kisel, August 2025, Documentation/virt/hyperv/coco.rst for Confidential VMBus",
		references: [KISEL_DOCS],
		apply: (setup) => ({ ...setup, connection: "fallback" }),
	},
	{
		name: "no-fallback",
		title: "the confidential VMBus connection fails, and the guest does without the device",
		source: "the other answer to Roman Kisel's fallback, August 2025",
		references: [KISEL_DOCS],
		apply: (setup) => ({ ...setup, connection: "no-fallback" }),
	},
	{
		name: "evidence-pending",
		title: "evidence has to be accepted before an offer counts, and is not yet accepted when the driver binds",
		source: "Dan Williams, April 2025: policy accepts a device after it has validated launch state and measurements",
		references: [BITFIELD_THREAD],
		apply: (setup) => ({ ...setup, evidencePending: true }),
	},
	{
		name: "flag-flips",
		title: "the driver takes its flag back while a mapping lives, and sets it again after the unmap",
		source: "Dan Williams, April 2025, on Roman Kisel's patch 5: how and when the flag is set is the question",
		references: [BITFIELD_THREAD],
		apply: (setup) => ({ ...setup, flipsFlag: true }),
	},
	{
		name: "keep-present",
		title: "pages stay present while they are converted, as before Linux 6.9: a stray read then may end the guest",
		source: "Linux Documentation/virt/hyperv/coco.rst: load_unaligned_zeropad during a page's transition",
		references: [STRAY_READS],
		apply: (setup) => ({ ...setup, guest: { ...setup.guest, keepPresent: true } }),
	},
	{
		name: "pool-undecrypted",
		title:
			"the default pool's pages cannot be decrypted at boot: 6.12 uses them all the same, 7.3 serves nobody from them",
		source: "Aneesh Kumar K.V, v7, July 2026: failures of set_memory_decrypted are handled",
		references: MERGED_7_3,
		apply: (setup) => ({ ...setup, guest: { ...setup.guest, undecrypted: true } }),
	},
	{
		name: "accepted",
		title: "the scenario's device is a TDISP device whose evidence is accepted",
		source: HARDWARE,
		references: [],
		apply: (setup) => ({ ...setup, device: { ...setup.device, accepted: true } }),
	},
	{
		name: "non-coherent",
		title: "the device's DMA is not cache-coherent",
		source: `${HARDWARE}; Mostafa Saleh, May 2026: such devices need private pools`,
		references: ON_POOL_STATE_V4,
		apply: (setup) => ({ ...setup, device: { ...setup.device, coherent: false } }),
	},
	{
		name: "mask-32",
		title: "the device's DMA mask has 32 bits",
		source: HARDWARE,
		references: [],
		apply: (setup) => ({ ...setup, device: { ...setup.device, dmaMask: 0xffffffffn } }),
	},
	{
		name: "external-facing",
		title: "the device sits behind a port that anybody can reach",
		source: `${HARDWARE}; Robin Murphy, February 2026: one property for that and for TDISP`,
		references: [MURPHY_ON_V2],
		apply: (setup) => ({ ...setup, device: { ...setup.device, externalFacing: true } }),
	},
	{
		name: "zero-on-free",
		title: "slots are zeroed when they are given back",
		source: "no proposal: what it would cost to leave nothing behind",
		references: [],
		apply: (setup) => ({ ...setup, guest: { ...setup.guest, zeroOnFree: true } }),
	},
];
