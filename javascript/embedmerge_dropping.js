/**
 * Files that are dropped into the page Inspect, or chosen there: read here, and sent to the server as a text.
 *
 * Nothing is uploaded, so no file of the server can be named, and none is kept there (lib_embedmerge/ui/dropped.py).
 */
class EmbedMergeDropping {
    static PLACE = "#embedmerge_file";

    /** What was dropped last, as JSON: its name, its size, and what it holds in base64. */
    #dropped = "{}";
    #question = new EmbedMergeQuestion("drop", "inspection");

    constructor() {
        document.addEventListener("change", (event) => this.#chosen(event));
        document.addEventListener("dragover", (event) => this.#over(event));
        document.addEventListener("dragleave", (event) => this.#mark(event, false));
        document.addEventListener("drop", (event) => this.#drop(event));
    }

    /** Called by gradio when the file is sent: the file, and the number by which the answer is known. */
    asking() {
        return JSON.stringify([this.#question.asking(), this.#dropped]);
    }

    #chosen(event) {
        const input = event.target.closest?.(`${EmbedMergeDropping.PLACE} input[type=file]`);
        if (input?.files?.length) {
            this.#take(input.files[0]);
        }
    }

    #over(event) {
        if (this.#mark(event, true)) {
            event.preventDefault(); // else nothing can be dropped there
        }
    }

    #drop(event) {
        const place = this.#mark(event, false);
        const file = event.dataTransfer?.files?.[0];
        if (place && file) {
            event.preventDefault(); // else the browser opens the file
            this.#take(file);
        }
    }

    #mark(event, isOver) {
        const place = event.target.closest?.(EmbedMergeDropping.PLACE);
        place?.querySelector(".embedmerge-drop")?.classList.toggle("embedmerge-over", isOver);
        return place;
    }

    async #take(file) {
        const place = document.querySelector(`${EmbedMergeDropping.PLACE} .embedmerge-drop`);
        const isSmall = file.size <= Number(place.dataset.embedmergeLargest);
        const data = isSmall ? await this.#encoded(file) : null;
        this.#dropped = JSON.stringify({ name: file.name, size: file.size, data });
        place.querySelector("input").value = ""; // so that the same file can be chosen again
        this.#question.ask();
    }

    /** What a file holds, in base64; null where the browser cannot read it. */
    #encoded(file) {
        return new Promise((done) => {
            const reader = new FileReader();
            reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
            reader.onerror = () => done(null);
            reader.readAsDataURL(file);
        });
    }
}

window.embedMergeDropping = new EmbedMergeDropping();
