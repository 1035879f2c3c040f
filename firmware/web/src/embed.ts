import "./base.css";
import "./embed.css";
import { Stage } from "./stage";

new Stage(document.getElementById("stage") as HTMLElement);
