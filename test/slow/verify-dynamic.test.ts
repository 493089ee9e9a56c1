import "../verify/dynamic.test.ts";
