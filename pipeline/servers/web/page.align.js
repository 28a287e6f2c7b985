"use strict";
// Moves the infrared image by hand: arrow keys, live. Only operators see it, and only where the rig can be moved.
// What is moved is sent as a whole, so that a lost request is made up for by the next one.
class Align {
  constructor(panel, rig) {
    this.panel = panel; this.rig = rig; this.state = null; this.sending = this.again = this.saving = false;
    this.note = panel.querySelector("output"); this.save = panel.querySelector("[data-align=save]");
    for (const button of panel.querySelectorAll("[data-align]"))
      button.addEventListener("click", () => this.act(button.dataset.align, 1));
    panel.addEventListener("keydown", (event) => this.key(event));
  }

  leave() { this.state = null; this.again = this.saving = false; this.panel.hidden = true; }

  // Called when the rig that is chosen has video: leaves the panel hidden where it cannot be moved or the user may not.
  async choose(rig) {
    this.leave();
    this.rig = rig;
    const answer = await fetch(this.path(), { signal: AbortSignal.timeout(5000) }).catch(() => null);
    if (!answer || !answer.ok || rig !== this.rig) return;
    this.state = await answer.json();
    this.panel.hidden = Boolean(this.state.problem);
    this.show();
  }

  path(end = "") { return `rigs/${encodeURIComponent(this.rig)}/alignment${end}`; }

  key(event) {
    const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "larger", "-": "smaller", ",": "anticlockwise", ".": "clockwise" };
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.act(action, event.shiftKey ? 10 : 1);
  }

  act(action, steps) {
    if (!this.state) return;
    const s = this.state, [width, height] = s.size;
    if (action === "save") { this.send("/save"); return; }
    if (action === "left") s.right -= steps / width;
    if (action === "right") s.right += steps / width;
    if (action === "up") s.down -= steps / height;
    if (action === "down") s.down += steps / height;
    if (action === "clockwise") s.turn_deg += 0.1 * steps;
    if (action === "anticlockwise") s.turn_deg -= 0.1 * steps;
    if (action === "larger") s.stretch *= 1.001 ** steps;
    if (action === "smaller") s.stretch /= 1.001 ** steps;
    if (action === "reset") Object.assign(s, { right: 0, down: 0, turn_deg: 0, stretch: 1 });
    this.show();
    this.send();
  }

  // One request at a time; what is moved meanwhile goes with the next, and then a save that was asked for meanwhile.
  async send(end = "") {
    if (this.sending) { if (end) this.saving = true; else this.again = true; return; }
    this.sending = true;
    if (end) this.saving = false; else this.again = false;
    const { right, down, turn_deg, stretch } = this.state, rig = this.rig;
    try {
      const answer = await fetch(this.path(end), {
        method: "POST", headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(5000),
        body: end ? undefined : JSON.stringify({ right, down, turn_deg, stretch }),
      });
      const text = await answer.text();
      if (rig !== this.rig) return;
      if (!answer.ok) { this.note.textContent = text.trim(); return; }
      const state = JSON.parse(text);
      if (!this.again) this.state = state;
      this.show(state.backup ? `saved; the file before: ${state.backup}` : "");
    } catch (error) {
      this.note.textContent = "not sent";
    } finally {
      this.sending = false;
      if (this.state && this.again) this.send();
      else if (this.state && this.saving) this.send("/save");
    }
  }

  show(note = "") {
    const s = this.state, [width, height] = s.size;
    const moved = `${(s.right * width).toFixed(0)} px right, ${(s.down * height).toFixed(0)} px down, ${s.turn_deg.toFixed(1)}°, ${(100 * s.stretch).toFixed(1)} %`;
    this.save.disabled = Boolean(s.unsavable) || s.saved;
    this.note.textContent = [moved, note || (s.unsavable ? s.unsavable : s.saved ? "" : "not saved")].filter(Boolean).join("; ");
  }
}
const align = new Align(document.getElementById("align"), "");
