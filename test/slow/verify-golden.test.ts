import "../verify/golden.test.ts";
