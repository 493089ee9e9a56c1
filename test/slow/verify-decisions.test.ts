import "../verify/decisions-golden.test.ts";
