import js from "@eslint/js";
import globals from "globals";

export default [
	js.configs.recommended,
	{
		rules: {
			eqeqeq: "error",
			"no-shadow": "error",
			"no-var": "error",
			"object-shorthand": "error",
			"prefer-const": "error",
		},
	},
	{ files: ["static/*.js"], languageOptions: { globals: globals.browser } },
	{
		files: ["*.js", "tests/static/*.js", "tests/support/clients/*.mjs"],
		languageOptions: { globals: { ...globals.node, ...globals.browser } },
	},
];
