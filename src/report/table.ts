/** Text tables. */

/** A left-aligned first column, right-aligned others. */
export function textTable(rows: readonly (readonly string[])[]): string {
	const columns = Math.max(...rows.map((row) => row.length));
	const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
	return rows
		.map((row) =>
			row
				.map((cell, c) => (c === 0 ? cell.padEnd(widths[c] as number) : cell.padStart(widths[c] as number)))
				.join("  ")
				.trimEnd(),
		)
		.join("\n");
}

/** Columns, all aligned to the left. */
export function leftTable(rows: readonly (readonly string[])[]): string {
	const widths = (rows[0] as readonly string[]).map((_, c) =>
		Math.max(...rows.map((row) => (row[c] as string).length)),
	);
	return rows
		.map((row) =>
			row
				.map((cell, c) => cell.padEnd(widths[c] as number))
				.join("  ")
				.trimEnd(),
		)
		.join("\n");
}

/** A number for people: thousands separated, three significant digits below 100. */
export function formatNumber(value: number): string {
	if (!Number.isFinite(value)) return "-";
	if (Number.isInteger(value)) return value.toLocaleString("en-US");
	const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
	return Number(value.toFixed(digits)).toLocaleString("en-US", {
		minimumFractionDigits: digits,
		maximumFractionDigits: digits,
	});
}
