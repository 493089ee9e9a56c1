/**
 * A policy of your own: the 7.3 rules, where accepted devices never bounce. What their address mask does not reach is an
 * error, never a copy, and nobody else changes. Its file is its name: `--policy examples/my-policy.ts`, or with modifiers
 * `--policy examples/my-policy.ts+force`.
 */
import type { Policy } from "coco-dma/policy";

export default {
	name: "never-copy",
	title: "accepted devices get their buffers as they are, or an error",
	source: "this example",
	kernel: "linux-7.3",
	acceptance: "any",
	predicates: { forceBounce: ({ accepted, linux }) => linux.forceBounce && !accepted },
	mechanism: { accepted: "refuse" },
} satisfies Policy;
