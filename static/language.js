/** The choice of the page's language, below the page. */
import { rememberForServer } from "./settings.js";
import { words } from "./words.js";

/** Each in its own. @type {Record<string, string>} */
const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français", es: "Español" };

const footer = document.createElement("footer");
const choice = document.createElement("select");
choice.id = "language";
choice.setAttribute("aria-label", words.language);
for (const [code, name] of Object.entries(LANGUAGES)) {
	const option = new Option(name, code);
	option.lang = code;
	choice.append(option);
}
choice.value = document.documentElement.lang;
choice.onchange = () => {
	const address = new URL(location.href);
	if (rememberForServer("language", choice.value)) address.searchParams.delete("lang");
	else address.searchParams.set("lang", choice.value); // a frame in a page of another site has no cookies
	location.replace(address);
};
footer.append(choice);
document.body.append(footer);
