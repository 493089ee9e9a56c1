import "../coco/trust-property.test.ts";
