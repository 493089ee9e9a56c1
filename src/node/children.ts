/** Processes of this process: whoever is told to stop leaves none behind. */
import type { ChildProcess } from "node:child_process";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const children = new Set<ChildProcess>();

/** Hands a signal that ends this process on to a child. */
export function endWithUs(child: ChildProcess): void {
	if (children.size === 0) for (const signal of SIGNALS) process.on(signal, endAll);
	children.add(child);
	child.once("exit", () => {
		children.delete(child);
		if (children.size === 0) stopListening();
	});
}

function stopListening(): void {
	for (const signal of SIGNALS) process.off(signal, endAll);
}

function endAll(signal: NodeJS.Signals): void {
	for (const child of children) child.kill(signal);
	stopListening();
	// ends this process as the signal would have
	process.kill(process.pid, signal);
}
