package model

@Suppress("UNUSED_PARAMETER")
fun found(output: Tensor, n: List<Int>): List<String> = Processing.postprocess(output).flatMapIndexed { row, all ->
    all.map { "$row ${it.className} ${it.classId} ${it.confidence}" }
}
