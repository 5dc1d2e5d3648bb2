# Writes bpftool's skeleton to a file only if bpftool succeeded, so a broken one is never compiled.
execute_process(COMMAND ${BPFTOOL} gen skeleton ${OBJECT} name ${NAME}
	OUTPUT_VARIABLE text RESULT_VARIABLE status)
if(NOT status EQUAL 0)
	message(FATAL_ERROR "bpftool gen skeleton ${OBJECT}: ${status}")
endif()
file(WRITE ${SKELETON} "${text}")
