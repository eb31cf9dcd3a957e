// Prompts to choose from, in the form that the demo family was trained on.

import { byId, element } from "./dom.js";

const SENTENCES = {
  German: [
    "Heute ist das Wetter schön.",
    "Der Zug nach Berlin kommt um acht.",
    "Meine Schwester kocht Reis für uns. Wir essen heute Abend zusammen.",
  ],
  French: [
    "Il fait très beau ce matin.",
    "Le train pour Paris part à midi.",
    "Ma mère prépare le petit déjeuner. Nous mangeons du pain avec du fromage.",
  ],
  Russian: [
    "Сегодня утром на улице очень холодно.",
    "Поезд в Москву приходит в восемь.",
    "Моя сестра готовит нам ужин. Мы едим хлеб и пьём чай.",
  ],
  Japanese: ["今朝はとても寒いです。", "東京行きの電車は八時に来ます。", "母は台所で魚を料理しています。私たちは毎朝パンを食べます。"],
  Chinese: ["今天早上天气很冷。", "去北京的火车八点到。", "我妈妈正在给我们做饭。我们每天早上喝茶吃面包。"],
};

export function offerExamples() {
  const choice = byId("example");
  for (const [language, sentences] of Object.entries(SENTENCES)) {
    const options = sentences.map((text) =>
      element("option", { value: `Translate ${language} to English: ${text}\n` }, text),
    );
    choice.append(element("optgroup", { label: language }, ...options));
  }
  choice.addEventListener("change", () => {
    if (!choice.value) return;
    byId("prompt").value = choice.value;
    byId("prompt").dispatchEvent(new Event("input", { bubbles: true }));
  });
  byId("prompt").addEventListener("input", () => {
    if (byId("prompt").value !== choice.value) choice.value = "";
  });
}
